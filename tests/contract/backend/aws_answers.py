"""What AWS answers and DynamoDB Local never does: errors, in the form in which botocore expects them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders


class _Body(BytesIO):
    """The body of an answer, as botocore reads it."""

    def stream(self) -> Iterator[bytes]:
        """Give all of it at once."""
        yield self.read()


def operation(request: AWSPreparedRequest) -> str:
    """Return which of AWS's operations a request asks for."""
    target = request.headers.get("X-Amz-Target", b"")
    return (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]


def refusal(request: AWSPreparedRequest, code: str, **more: object) -> AWSResponse:
    """Return the answer that refuses the request with that code; `more` goes into its body."""
    body = {"__type": f"com.amazonaws.dynamodb#{code}", "message": "by the test", **more}
    return AWSResponse(request.url, 400, HTTPHeaders(), _Body(json.dumps(body).encode()))
