// Command kind runs Kubernetes in Docker, where there is a Docker.
package main

import "sigs.k8s.io/kind/cmd/kind/app"

func main() { app.Main() }
