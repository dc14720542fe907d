"""Builds the S3 server ahead of the tests, so that no test's time limit pays for it."""

from tests.servers.s3 import binary

print(binary())
