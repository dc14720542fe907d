"""The port on one DynamoDB table (manual, Using DynamoDB; the design is docs/adr/0004).

backend     the port itself: keys and conditions in, items and errors out
table       the table, its stream and its TTL: created when missing, refused when they are another's
items       attributes of an item, conditions of a write, records of the stream; pure
writer      one counter a space makes revisions dense; writes that wait together go in one transaction
history     recent changes by revision; pure
stream      reads DynamoDB Streams into the history, and once more from its beginning for who comes late
watch       follows the history by arithmetic: revision n + 1 comes after n, or history is gone
expiry      deletes expired items, so that watchers hear of it
connection  threads, timeouts, retries and the translation of errors; the one place that calls boto3
"""

from runtime.backend.dynamodb.backend import DynamoDBBackend

__all__ = ["DynamoDBBackend"]
