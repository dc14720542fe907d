"""GET /webapi/recordings/SID/PART: what is asked of auth, for whom, and what is refused before it is."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from runtime.api.people_messages import SignedRequest
from runtime.api.recording_messages import MAX_RECORDING_BYTES, RecordingData, RecordingRead
from runtime.core.errors import InvalidInput, NotFound
from runtime.proxy.recordings import RecordingRoutes

SIGNED = SignedRequest(method="GET", target="/webapi", certificate=b"joe", signature=b"xxx", time="now")
SID = "4c146ec8-eab6-41e6-b1b3-40167e68e931"


class Auth:
    """Auth, which gives a few bytes."""

    def __init__(self) -> None:
        self.asked: list[RecordingRead] = []

    async def call(self, method: object, params: RecordingRead) -> RecordingData:
        """Take note of what is asked for."""
        self.asked.append(params)
        return RecordingData(data=b"hi")


def routes(auth: Auth) -> RecordingRoutes:
    """Return the routes; somebody asks, who has signed this."""
    person = SimpleNamespace(signed=SIGNED)
    return RecordingRoutes(cast("Any", auth), cast("Any", SimpleNamespace(person=lambda request: person)))


async def ask(auth: Auth, path: str) -> str:
    """Ask for a piece of a recording."""
    sid, _, part = path.partition("?")[0].partition("/")
    request = make_mocked_request("GET", f"/webapi/recordings/{path}", match_info={"sid": sid, "part": part})
    return cast("str", (await routes(auth).read(request)).text)


@pytest.mark.parametrize(
    ("query", "offset", "size"),
    [
        ("", 0, MAX_RECORDING_BYTES),
        ("?offset=77", 77, MAX_RECORDING_BYTES),
        ("?offset=77&size=5", 77, 5),
        ("?size=0", 0, 1),
        ("?size=99999999", 0, MAX_RECORDING_BYTES),
    ],
)
@pytest.mark.parametrize("part", ["bytes", "log", "index"])
async def test_what_is_asked_of_auth(part: str, query: str, offset: int, size: int) -> None:
    """As much as one call gives, for the person who asks."""
    auth = Auth()
    assert await ask(auth, f"{SID}/{part}{query}") == '{"data": "aGk="}'
    (asked,) = auth.asked
    assert (asked.sid, asked.part, asked.offset, asked.size) == (uuid.UUID(SID), part, offset, size)
    assert asked.signed == SIGNED


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("..%2f..%2fetc/bytes", NotFound),
        ("x/bytes", NotFound),
        (f"{SID}/passwd", NotFound),
        (f"{SID}/bytes?offset=-1", InvalidInput),
        (f"{SID}/bytes?offset=1e3", InvalidInput),
        (f"{SID}/bytes?size=\u0663", InvalidInput),
        (f"{SID}/bytes?offset={'9' * 16}", InvalidInput),
    ],
)
async def test_what_is_refused(path: str, error: type[Exception]) -> None:
    """Auth does not hear of it."""
    auth = Auth()
    with pytest.raises(error):
        await ask(auth, path)
    assert auth.asked == []
