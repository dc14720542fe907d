// The etcd server as its own module builds it, pinned by go.mod and go.sum beside this file.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
