"""Where the cluster's state is kept: one port (base) and its implementations sqlite, etcd, dynamodb and memory.

Beside it a port for what is large and never changes, recordings (objects), and its implementation s3.
"""
