"""What AWS says went wrong, in our words: pure functions from botocore's exceptions to the errors of the port."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from runtime.core.errors import AccessDenied, InvalidSettings, TeleportError, Unavailable

THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottledException",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequestsException",
        "LimitExceededException",
    }
)
"""Codes by which AWS asks to come back later (Developer Guide, Error handling with DynamoDB)."""

_TRANSIENT = frozenset(
    {"InternalServerError", "InternalFailure", "ServiceUnavailable", "TransactionInProgressException"}
)

_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)

_ACTIONS = {
    # A transaction is allowed or refused by the actions of its parts.
    "TransactWriteItems": "dynamodb:PutItem, dynamodb:DeleteItem",
}


def code(error: ClientError) -> str:
    """Return AWS's name of the error."""
    return error.response.get("Error", {}).get("Code", "")


def is_throttling(error: ClientError) -> bool:
    """Return whether AWS asks to come back later."""
    return code(error) in THROTTLED


def is_transient(error: ClientError) -> bool:
    """Return whether AWS failed for a moment, so that the same request may be sent again."""
    return code(error) in _TRANSIENT or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500


def never_sent(error: BotoCoreError) -> bool:
    """Return whether the request certainly did not reach the server."""
    return isinstance(error, (EndpointConnectionError, ConnectTimeoutError))


def translated(error: ClientError | BotoCoreError, table: str) -> TeleportError:
    """Return the error of the port for one of botocore's. No message holds a credential: AWS never sends one back."""
    if isinstance(error, ClientError):
        return _refusal(error, table)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return InvalidSettings(
            f"there are no AWS credentials for the dynamodb table {table}",
            hint="Give access_key and secret_key in the storage section, or AWS's own: environment, profile or role.",
        )
    return Unavailable(
        f"the dynamodb table {table} did not answer: {type(error).__name__}",
        hint="Check region and endpoint of the storage section and the network.",
    )


def _refusal(error: ClientError, table: str) -> TeleportError:
    name, operation = code(error), error.operation_name
    if name in {"AccessDeniedException", "AccessDenied"}:
        actions = _ACTIONS.get(operation, f"dynamodb:{operation}")
        return AccessDenied(
            f"AWS does not allow {operation} on the dynamodb table {table}",
            hint=f"Grant these credentials {actions} on the table (docs/dynamodb.md has the whole policy).",
        )
    if name in _BAD_CREDENTIALS:
        return AccessDenied(
            f"AWS does not accept the credentials for the dynamodb table {table}: {name}",
            hint="Check access_key and secret_key, that a session token has not expired, and this machine's clock.",
        )
    if name in THROTTLED:
        return Unavailable(
            f"AWS throttles the dynamodb table {table}: {name}",
            hint="Raise its capacity or use on-demand billing; one space of keys takes about 250 writes a second.",
        )
    if name == "ResourceNotFoundException":
        return Unavailable(f"the dynamodb table {table} is not there", hint="It is created again at the next start.")
    message = error.response.get("Error", {}).get("Message", "")
    return Unavailable(
        f"{operation} failed on the dynamodb table {table}: {name}: {message}",
        hint="Try again; where it stays, the AWS console shows the state of the table.",
    )
