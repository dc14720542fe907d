"""A real Kubernetes for the tests, on one machine, without a container engine or an image registry.

Two sizes. A `ControlPlane` is etcd and kube-apiserver: all that an operator talks to, up in seconds, for any user. A
`Cluster` is that with a node: the controllers, the scheduler, containerd, a kubelet, kube-proxy and cluster DNS, so
that pods run; it needs root and changes the machine's network (an address, a bridge, nftables rules) until it ends.

Everything is built from source by the pinned go.mod files beside this one. Nothing here ever reads KUBECONFIG or
~/.kube: what is started here is used, and nothing else is touched.
"""
