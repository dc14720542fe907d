"""Fetches DynamoDB Local ahead of the tests, so that no test's time limit pays for it."""

from tests.servers.dynamodb_local import library

print(library())
