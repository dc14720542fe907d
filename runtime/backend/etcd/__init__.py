"""The etcd backend: gRPC with channels of our own (connections, tls), what is sent (keyspace), operations, watches."""

from runtime.backend.etcd.backend import EtcdBackend

__all__ = ["EtcdBackend"]
