"""What a proxy reads for people: only what they have asked for themselves, however much it would like to know."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runtime.api import methods
from runtime.api.messages import Name
from runtime.api.people_messages import SignedRequest
from runtime.api.proving import MAX_AGE
from runtime.api.recording_messages import RecordingPiece, RecordingQuery, RecordingRead, RecordingSession
from runtime.api.resource_messages import ResourceDocument
from runtime.api.session_messages import SessionList, SessionQuery
from runtime.api.signed import AUTHORIZATION_HEADER, CERTIFICATE_HEADER, TIME_HEADER, signed_headers
from runtime.audit.events import EventType
from runtime.auth.handlers.events import READ_AGAIN
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, NotFound
from runtime.core.resources import load_documents
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer
from tests.unit.auth.world import ADMIN, HOUR, PROXY, World

NODE = Caller(CallerKind.NODE, "00000000-0000-4000-8000-00000000000c", "192.0.2.22")
LIST = "/webapi/recordings"
SIDS = {name: UUID(int=number) for number, name in enumerate(("joe", "ann"), 1)}


class People:
    """Joe and ann, each with a recorded session, and aud, who may play all; and what they sign."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys: defaultdict[str, PrivateKey] = defaultdict(generate_key)

    async def begin(self) -> None:
        """Declare them, and record their sessions."""
        for document in (
            "{kind: User, metadata: {name: joe}, spec: {roles: [plain]}}",
            "{kind: User, metadata: {name: ann}, spec: {roles: [plain]}}",
            "{kind: User, metadata: {name: aud}, spec: {roles: [plain, auditor]}}",
            "{kind: Role, metadata: {name: plain}, spec: {allow: {logins: [root]}}}",
            "{kind: Role, metadata: {name: auditor}, spec: {allow: {rules: [{resources: [session], verbs: [read]}]}}}",
        ):
            text = "{apiVersion: teleport.internal/v1, " + document[1:]
            (resource,) = load_documents(text, source="test")
            await self.world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=text, overwrite=True))
            assert resource.name
        for name, sid in SIDS.items():
            session = RecordingSession.model_validate(
                {"sid": sid, "user": name, "login": "root", "started": self.world.clock.now(), "command": "ls"}
            )
            piece = RecordingPiece(session=session, part="bytes", offset=0, data=name.encode())
            await self.world.call(NODE, methods.RECORDING_APPEND, piece)

    def signed(
        self,
        name: str,
        target: str = LIST,
        *,
        signer: Signer | None = None,
        key: PrivateKey | None = None,
        person: str = "",
        **changed: Any,
    ) -> SignedRequest:
        """Return what somebody signs, with what the proxy changes of it."""
        now = self.world.clock.now()
        claims = UserClaims(user=name, cluster="main", logins=("root",), roles=(), ttl=HOUR, person=person)
        signer = signer or self.world.authorities.user.signer
        line = sign_user(claims, self.keys[name].public, signer=signer, now=now, serial=random_serial()).line
        headers = signed_headers(
            "GET", target, cluster="main", key=key or self.keys[name], certificate=line.decode(), now=now
        )
        signed = SignedRequest(
            method="GET",
            target=target,
            certificate=base64.b64decode(headers[CERTIFICATE_HEADER]),
            signature=base64.b64decode(headers[AUTHORIZATION_HEADER].split()[1]),
            time=headers[TIME_HEADER],
        )
        return signed.model_copy(update=changed)

    async def listed(self, signed: SignedRequest | None) -> set[str]:
        """Return whose recordings a proxy is told of."""
        found = await self.world.call(PROXY, methods.RECORDINGS_LIST, RecordingQuery(signed=signed))
        return {entry.session.user for entry in found.recordings}

    async def read(self, signed: SignedRequest | None, whose: str) -> bytes:
        """Return what a proxy is given of somebody's recording."""
        wanted = RecordingRead(sid=SIDS[whose], part="bytes", signed=signed)
        return (await self.world.call(PROXY, methods.RECORDING_READ, wanted)).data


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    """Yield them, at an auth service that keeps recordings."""
    world = World()
    world.options = type(world.options)(**{**vars_of(world), "recordings": tmp_path / "recordings"})
    await world.start()
    people = People(world)
    await people.begin()
    try:
        yield people
    finally:
        await world.stop()


def vars_of(world: World) -> dict[str, Any]:
    """Return the options of a world, by name."""
    return {name: getattr(world.options, name) for name in world.options.__dataclass_fields__}


def path_of(whose: str, part: str = "bytes") -> str:
    """Return the path of somebody's recording."""
    return f"{LIST}/{SIDS[whose]}/{part}?offset=0&size=10"


async def test_to_each_what_this_one_may_read(people: People) -> None:
    """One's own, and all with a role for it; who has asked is who has signed."""
    assert await people.listed(people.signed("joe")) == {"joe"}
    assert await people.listed(people.signed("aud")) == {"joe", "ann"}
    assert await people.read(people.signed("joe", path_of("joe")), "joe") == b"joe"
    assert await people.read(people.signed("aud", path_of("ann")), "ann") == b"ann"
    with pytest.raises(AccessDenied, match="user joe may not read the recording of session"):
        await people.read(people.signed("joe", path_of("ann")), "ann")
    assert people.world.audit.of(EventType.CALL_REFUSED) == []


async def test_who_had_the_name_before_reads_nothing(people: People) -> None:
    """What was signed with a certificate of an earlier user of that name is refused."""
    with pytest.raises(AccessDenied, match="issued to who was user joe before"):
        await people.listed(people.signed("joe", person="0" * 32))


async def test_who_reads_is_in_the_log(people: People) -> None:
    """Once for all the pieces of a recording, and again a quarter of an hour later; not for one who may not."""

    def told() -> list[tuple[object, object]]:
        return [(event["by"], event["user"]) for event in people.world.audit.of(EventType.RECORDING_READ)]

    for _ in range(3):
        await people.read(people.signed("aud", path_of("ann")), "ann")
    assert told() == [("user aud", "ann")]
    with pytest.raises(AccessDenied):
        await people.read(people.signed("joe", path_of("ann")), "ann")
    await people.read(people.signed("aud", path_of("joe")), "joe")
    await people.world.call(ADMIN, methods.RECORDING_READ, RecordingRead(sid=SIDS["ann"], part="bytes"))
    assert told()[1:] == [("user aud", "joe"), (str(ADMIN), "ann")]
    people.world.clock.advance(READ_AGAIN)
    await people.read(people.signed("aud", path_of("ann")), "ann")
    assert told()[3:] == [("user aud", "ann")]


async def test_a_proxys_word_is_not_enough(people: People) -> None:
    """Without a person's request it gets nothing, and with one only what that one is for; auth's log has it."""
    for attempt, reason in (
        (people.listed(None), "only for a person who has asked for it"),
        (people.read(None, "joe"), "only for a person who has asked for it"),
        (people.read(people.signed("aud"), "joe"), "user aud has signed another request"),
        (people.read(people.signed("aud", path_of("ann")), "joe"), "user aud has signed another request"),
        (people.read(people.signed("aud", path_of("joe", "log")), "joe"), "user aud has signed another request"),
        (people.listed(people.signed("aud", "/webapi/nodes")), "user aud has signed another request"),
        (
            people.listed(people.signed("joe", "/webapi/nodes").model_copy(update={"target": LIST})),
            "the signature does not fit",
        ),
        (people.listed(people.signed("joe", method="POST")), "the signature does not fit"),
        (people.listed(people.signed("joe", certificate=people.signed("aud").certificate)), "by another key"),
        (people.listed(people.signed("aud", key=generate_key())), "the signature is by another key"),
        (people.listed(people.signed("eve")), "there is no user 'eve'"),
    ):
        with pytest.raises(AccessDenied, match=reason):
            await attempt
    refusals = people.world.audit.of(EventType.CALL_REFUSED)
    assert len(refusals) == 11
    assert {str(event["caller"]) for event in refusals} == {f"proxy {PROXY.name}"}


async def test_another_authority(people: People) -> None:
    """Neither that of another cluster with the same name, nor the one for hosts."""
    for signer in (Signer(AuthorityType.USER, "main", generate_key()), None):
        if signer is None:
            host = people.world.authorities.host.signer
            signer = Signer(AuthorityType.USER, "main", host.key)
        with pytest.raises(AccessDenied):
            await people.listed(people.signed("aud", signer=signer))


async def test_a_request_is_good_for_a_minute(people: People) -> None:
    """By auth's clock: what a proxy has kept is worth nothing later."""
    kept = people.signed("aud")
    people.world.clock.advance(MAX_AGE)
    assert await people.listed(kept) == {"joe", "ann"}
    people.world.clock.advance(timedelta(seconds=1))
    with pytest.raises(AccessDenied, match="by auth's clock it is"):
        await people.listed(kept)


async def test_rights_are_those_of_now(people: People) -> None:
    """A user that was deleted meanwhile reads nothing."""
    kept = people.signed("aud")
    await people.world.call(ADMIN, methods.USERS_DELETE, Name(name="aud"))
    with pytest.raises(AccessDenied, match="there is no user 'aud'"):
        await people.listed(kept)


async def test_sessions_that_run(people: People) -> None:
    """They are listed to a proxy in the same way; for the one session that was asked for, if one was."""
    one, other = UUID(int=7), UUID(int=8)

    async def ask(target: str, sid: UUID | None) -> SessionList:
        query = SessionQuery(sid=sid, signed=people.signed("aud", target))
        return await people.world.call(PROXY, methods.SESSIONS_LIST, query)

    for target, sid in (("/webapi/sessions", None), (f"/webapi/sessions?sid={one}", one)):
        assert (await ask(target, sid)).sessions == ()
    for target, sid in (
        ("/webapi/sessions", one),
        (f"/webapi/sessions?sid={other}", one),
        (f"/webapi/sessions?sid={one}&sid={other}", one),
        (f"/webapi/sessions?sid={one}", None),
        (LIST, None),
    ):
        with pytest.raises(AccessDenied, match="user aud has signed another request"):
            await ask(target, sid)
    with pytest.raises(AccessDenied, match="only for a person"):
        await people.world.call(PROXY, methods.SESSIONS_LIST, SessionQuery())


async def test_administrators_sign_nothing(people: People) -> None:
    """They are callers of auth's own port, and read all."""
    found = await people.world.call(ADMIN, methods.RECORDINGS_LIST, RecordingQuery())
    assert {entry.session.user for entry in found.recordings} == {"joe", "ann"}
    with pytest.raises(NotFound):
        await people.world.call(ADMIN, methods.RECORDING_READ, RecordingRead(sid=UUID(int=9), part="bytes"))
