// An S3 server on a folder: the Versity gateway as a library, pinned by go.mod and go.sum beside this file.
//
//	s3 ADDRESS FOLDER ACCESS-KEY SECRET-KEY REGION
//
// Buckets are folders in FOLDER/buckets; what S3 knows of objects beside their bytes is in FOLDER/metadata.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: s3 ADDRESS FOLDER ACCESS-KEY SECRET-KEY REGION")
	}
	address, folder := os.Args[1], os.Args[2]
	metadata := filepath.Join(folder, "metadata")
	sidecar, err := meta.NewSideCar(metadata)
	if err != nil {
		log.Fatal(err)
	}
	store, err := posix.New(filepath.Join(folder, "buckets"), sidecar, posix.PosixOpts{SideCarDir: metadata})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(embedgw.RunVersityGW(context.Background(), store, &embedgw.Config{
		RootUserAccess:    os.Args[3],
		RootUserSecret:    os.Args[4],
		Region:            os.Args[5],
		Ports:             []string{address},
		MaxConnections:    1000,
		MaxRequests:       1000,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		IAMDir:            filepath.Join(folder, "accounts"),
	}))
}
