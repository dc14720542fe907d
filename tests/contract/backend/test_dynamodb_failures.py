"""What DynamoDB Local never does and AWS does: throttle, refuse, and carry out a write whose answer is then lost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

from runtime.backend.base import Put
from runtime.core.errors import AccessDenied, AlreadyExists, Unavailable
from tests.contract.backend.aws_answers import operation, refusal
from tests.contract.backend.dynamodb_store import DynamoDBStore
from tests.contract.backend.harness import (
    QUICK_SECONDS,
    SHORT_REQUEST_SECONDS,
    next_changes,
    next_event,
    next_snapshot,
)

pytestmark = pytest.mark.parametrize("store", ["dynamodb"], indirect=True)

LOST = "lost"
"""In place of a code: the request is carried out, and its answer does not arrive."""

_REASONS = [{"Code": "None"}, {"Code": "ConditionalCheckFailed"}, {"Code": "None"}]
"""Why a transaction is cancelled, where the code says that it is: the write's condition failed, not the counter's."""


class Answers:
    """Puts AWS's errors in the place of DynamoDB Local's next answers."""

    def __init__(self, send: Callable[[URLLib3Session, AWSPreparedRequest], AWSResponse]) -> None:
        self._send = send
        self._codes: dict[str, list[str]] = {}

    def __call__(self, operation: str, *codes: str, times: int = 1) -> None:
        """Answer that operation with these codes, in their order and so many times over, before it is served again."""
        self._codes[operation] = [*codes] * times

    def answer(self, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """Take the place of `URLLib3Session.send`."""
        codes = self._codes.get(operation(request))
        if not codes:
            return self._send(session, request)
        code = codes.pop(0)
        if code == LOST:
            assert self._send(session, request).status_code == 200
            raise ReadTimeoutError(endpoint_url=request.url)
        return refusal(request, code, CancellationReasons=_REASONS)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let the test say how AWS answers."""
    answers = Answers(URLLib3Session.send)
    monkeypatch.setattr(URLLib3Session, "send", lambda session, request: answers.answer(session, request))
    return answers


async def test_a_write_whose_answer_is_lost_is_done_once(store: DynamoDBStore, answers: Answers) -> None:
    """It is sent again and known by its token: not refused by what it did itself, and told to a watch once."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        answers("TransactWriteItems", LOST, LOST)
        created = await backend.create("resources/a", b"1")
        answers("TransactWriteItems", LOST)
        swapped = await backend.compare_and_swap("resources/a", b"2", revision=created.revision)
        other = await backend.put("resources/b", b"")
        assert await next_changes(watch, 3) == [Put(created), Put(swapped), Put(other)]
    assert [created.revision, swapped.revision, other.revision] == [1, 2, 3]
    assert (await backend.range("resources/")).items == (swapped, other)


async def test_a_write_in_doubt_is_unavailable(store: DynamoDBStore, answers: Answers) -> None:
    """Once an answer was lost, a failed condition can be that write's own doing: nobody is told AlreadyExists."""
    backend = await store.open()
    answers("TransactWriteItems", LOST, "TransactionCanceledException")
    with pytest.raises(Unavailable):
        await backend.create("resources/a", b"1")
    assert (await backend.get("resources/a")).value == b"1"
    answers("TransactWriteItems", "TransactionCanceledException")
    with pytest.raises(AlreadyExists):
        await backend.create("resources/a", b"2")


async def test_a_write_that_was_only_put_off_is_not_in_doubt(store: DynamoDBStore, answers: Answers) -> None:
    """What AWS throttled it did not do: a failed condition after it means what it says."""
    backend = await store.open()
    item = await backend.create("resources/a", b"1")
    answers("TransactWriteItems", "ThrottlingException")
    with pytest.raises(AlreadyExists):
        await backend.create("resources/a", b"2")
    assert await backend.get("resources/a") == item


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"]
)
async def test_throttling_is_waited_out_counted_and_logged(
    store: DynamoDBStore, answers: Answers, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    """A write that AWS puts off three times is done, and the log says that it was put off."""
    backend = await store.open()
    answers("TransactWriteItems", code, times=3)
    item = await backend.put("resources/a", b"1")
    assert await backend.get("resources/a") == item
    assert backend.throttled == 3
    told = [record for record in caplog.records if "throttles" in record.message]
    assert len(told) == 2  # the first and the second time
    assert code in told[0].message


async def test_endless_throttling_is_unavailable_in_time(store: DynamoDBStore, answers: Answers) -> None:
    """And says so, rather than that there was no answer."""
    await store.open()
    backend = await store.open(timeout=SHORT_REQUEST_SECONDS)
    answers("GetItem", "ThrottlingException", times=1_000)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="throttles"):
        await backend.get("resources/a")
    assert time.monotonic() - start < SHORT_REQUEST_SECONDS + QUICK_SECONDS


@pytest.mark.parametrize(
    ("refused", "action"),
    [("TransactWriteItems", "dynamodb:PutItem"), ("Query", "dynamodb:Query"), ("GetItem", "dynamodb:GetItem")],
)
async def test_a_missing_permission_is_named(store: DynamoDBStore, answers: Answers, refused: str, action: str) -> None:
    """The hint has the IAM action to grant."""
    backend = await store.open()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "TransactWriteItems": lambda: backend.put("resources/b", b""),
        "Query": lambda: backend.range("resources/"),
        "GetItem": lambda: backend.get("resources/a"),
    }
    answers(refused, "AccessDeniedException", times=100)
    with pytest.raises(AccessDenied, match=refused) as caught:
        await calls[refused]()
    assert action in caught.value.hint


@pytest.mark.parametrize("refused", ["GetItem", "Query"])
async def test_a_watch_that_may_not_read_says_so(store: DynamoDBStore, answers: Answers, refused: str) -> None:
    """It ends with the error instead of waiting for ever."""
    await (await store.open()).put("resources/a", b"")
    backend = await store.open()
    answers(refused, "AccessDeniedException", times=1_000)
    async with aclosing(backend.watch("resources/")) as watch:
        with pytest.raises(AccessDenied, match=refused):
            await next_event(watch)


async def test_a_watch_that_may_no_longer_read_says_so(store: DynamoDBStore, answers: Answers) -> None:
    """As when an administrator took the permission away while it waited."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        answers("GetItem", "AccessDeniedException", times=1_000)
        with pytest.raises(AccessDenied, match="GetItem"):
            await next_event(watch)


async def test_credentials_that_aws_does_not_know_are_refused_at_opening(
    store: DynamoDBStore, answers: Answers
) -> None:
    """With a hint at the keys and the clock."""
    answers("DescribeTable", "UnrecognizedClientException")
    with pytest.raises(AccessDenied, match="credentials") as caught:
        await store.open()
    assert "access_key" in caught.value.hint
