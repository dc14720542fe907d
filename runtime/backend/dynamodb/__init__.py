"""The port on one DynamoDB table (manual, Using DynamoDB; the design is docs/adr/0004 and 0011).

backend     the port itself: keys and conditions in, items and errors out
table       the table and its TTL: created when missing, refused when they are another's
items       attributes of an item, conditions of a write; pure
changelog   entries of the log of changes, which lies in the table beside each space; pure
writer      one counter a space makes revisions dense; writes that wait together go in one transaction
reads       a counter, and the pages of a query
history     recent changes by revision; pure
poller      polls the log of a space that is watched into its history
watch       follows the history by arithmetic: revision n + 1 comes after n, or history is gone
expiry      deletes expired items, so that watches hear of it
connection  threads, timeouts, retries and the translation of errors; the one place that calls boto3
"""

from runtime.backend.dynamodb.backend import DynamoDBBackend

__all__ = ["DynamoDBBackend"]
