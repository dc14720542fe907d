"""Where the cluster's state is kept: one port (base) and its implementations sqlite, etcd, dynamodb and memory."""
