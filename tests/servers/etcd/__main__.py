"""Builds etcd ahead of the tests, so that no test's time limit pays for it."""

from tests.servers.etcd import binary

print(binary())
