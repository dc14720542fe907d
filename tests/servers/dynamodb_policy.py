"""DynamoDB Local behind IAM policies, which it does not enforce by itself: each request is judged as AWS would.

A policy is what docs/dynamodb.md has. A request is judged by its action and by the partition keys that it names.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

PAGE = Path(__file__).parents[2] / "docs" / "dynamodb.md"
AUTH, OPERATOR = map(json.loads, re.findall(r"^```json\n([^`]*)^```", PAGE.read_text(), re.MULTILINE))
"""The policies that the documentation gives."""

REQUEST_SECONDS = 60.0

_PARTS = {
    "Put": "PutItem",
    "Delete": "DeleteItem",
    "Update": "UpdateItem",
    "ConditionCheck": "ConditionCheckItem",
}


@dataclass(frozen=True)
class Access:
    """One action that a request asks for, and the partition keys that it names."""

    action: str
    keys: frozenset[str]


def accesses(operation: str, body: Mapping[str, Any]) -> list[Access]:
    """Return what a request asks for; a transaction is what its parts are (Developer Guide, IAM with transactions)."""
    if operation == "TransactWriteItems":
        parts = [(kind, part) for each in body["TransactItems"] for kind, part in each.items()]
        return [Access(f"dynamodb:{_PARTS[kind]}", _key(part.get("Item") or part["Key"])) for kind, part in parts]
    if operation == "Query":
        assert body["ExpressionAttributeNames"]["#space"] == "space"
        asked = re.match(r"#space = (:\w+)( AND |$)", body["KeyConditionExpression"])
        assert asked
        return [Access("dynamodb:Query", frozenset({body["ExpressionAttributeValues"][asked[1]]["S"]}))]
    return [Access(f"dynamodb:{operation}", _key(body["Key"]) if "Key" in body else frozenset())]


def _key(attributes: Mapping[str, Any]) -> frozenset[str]:
    return frozenset({attributes["space"]["S"]})


def allows(policy: Mapping[str, Any], access: Access) -> bool:
    """Return whether one of the policy's statements allows it."""
    for statement in policy["Statement"]:
        condition = statement.get("Condition", {})
        assert statement["Effect"] == "Allow"
        assert set(statement) <= {"Effect", "Action", "Resource", "Condition"}
        assert set(condition) <= {"ForAllValues:StringEquals"}
        keys = condition.get("ForAllValues:StringEquals", {}).get("dynamodb:LeadingKeys")
        if access.action in statement["Action"] and (keys is None or access.keys <= set(keys)):
            return True
    return False


class PolicyProxy:
    """Stands before DynamoDB Local for a process that has that policy; as a context manager it ends with the test."""

    def __init__(self, port: int, policy: Mapping[str, Any]) -> None:
        self.refused: list[Access] = []
        """What was asked for and is not allowed."""
        refused = self.refused

        class Handler(_Handler):
            def judge(self, operation: str, body: bytes) -> bool:
                denied = [each for each in accesses(operation, json.loads(body)) if not allows(policy, each)]
                refused.extend(denied)
                return not denied

        Handler.upstream = port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Passes requests of one connection on."""

    protocol_version = "HTTP/1.1"
    upstream: int
    timeout = REQUEST_SECONDS

    def judge(self, operation: str, body: bytes) -> bool:
        """Return whether the request may go on."""
        raise NotImplementedError

    def do_POST(self) -> None:
        """Answer one request: with what DynamoDB says, with a refusal, or not at all where DynamoDB is away."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.judge(self.headers["X-Amz-Target"].rpartition(".")[2], body):
            refusal = {"__type": "com.amazonaws.dynamodb#AccessDeniedException", "message": "by the policy"}
            self._answer(HTTPStatus.BAD_REQUEST, [], json.dumps(refusal).encode())
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=REQUEST_SECONDS)
        try:
            connection.request("POST", self.path, body, dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""
