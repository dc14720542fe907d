"""Invites from the operator's side: the Secret, the record, status and conditions, against an API server in memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.cluster_facts import ClusterFacts, ProxyAddresses
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, NotFound
from runtime.core.keys import resource
from runtime.core.resources import Origin, SignupInvite, User, decode, encode, key_of
from runtime.core.resources.token import digest_of
from runtime.core.resources.user import RENEW_INVITE
from teleport_operator.context import Context
from teleport_operator.facts import Facts
from teleport_operator.judging import judge, news_of_invite, status_after
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.objects import Ref
from teleport_operator.verdicts.reconciling import Verdict

SECRET = "/api/v1/namespaces/team/secrets/joe-invite"
WEB = "proxy.example.com:443"
HOUR = timedelta(hours=1)


class Killed(Exception):
    """The process has ended here."""


class Server:
    """Keeps Secrets. After `lives` writes the process that writes is killed."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.denies = False
        self.crossed = 0
        self.writes = 0

    async def get(self, path: str) -> dict[str, Any]:
        """Return a Secret."""
        if path not in self.secrets:
            raise NotFound(path)
        return self.secrets[path]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a Secret, as the API server does with stringData."""
        if self.denies:
            raise AccessDenied(f"POST {path}: forbidden", hint="Give the right.")
        path = f"{path}/{body['metadata']['name']}"
        if path in self.secrets:
            raise AlreadyExists(path)
        data = {key: base64.b64encode(text.encode()).decode() for key, text in body["stringData"].items()}
        self.secrets[path] = {"metadata": dict(body["metadata"]), "type": body["type"], "data": data}
        self.writes += 1
        return self.secrets[path]

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a Secret."""
        if self.crossed:
            self.crossed -= 1
            raise CompareFailed(path)
        self.secrets[path] = dict(body)
        self.writes += 1
        return self.secrets[path]


class FatalBackend(MemoryBackend):
    """A backend whose writer may be killed before its write."""

    fatal = False

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Any:
        """Write, or die."""
        if self.fatal:
            raise Killed
        return await super().create(key, value, expires=expires)

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Any:
        """Write, or die."""
        if self.fatal:
            raise Killed
        return await super().compare_and_swap(key, value, revision=revision, expires=expires)


class World:
    """An operator to which one user is declared."""

    def __init__(self, web: str = WEB) -> None:
        self.clock = ManualClock(datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC))
        self.backend = FatalBackend(clock=self.clock)
        self.server = Server()
        self.body: dict[str, Any] = {
            "apiVersion": "teleport.internal/v1",
            "kind": "User",
            "metadata": {"name": "joe", "namespace": "team", "uid": "u1", "generation": 1, "annotations": {}},
            "spec": {"logins": ["joe"]},
            "status": {},
        }
        metrics = OperatorMetrics(Watches())
        facts = Facts(proxy_addr=web)
        self.context = Context(self.backend, self.clock, cast("ApiServer", self.server), metrics, facts=facts)
        self.news: list[str] = []

    async def look(self) -> Verdict:
        """Reconcile, and keep the status as the API server does (RFC 7386)."""
        verdict, error = await judge(self.context, "User", self.body)
        if error is not None:
            raise error
        self.news += [found.reason.value for found in news_of_invite(verdict, self.body)]
        status = status_after(self.context, self.body, verdict)
        assert (self.token() or "no token") not in json.dumps(status, default=str)
        self.body["status"] = merged(self.body["status"], status)
        return verdict

    async def declare_anew(self) -> None:
        """Delete the object and declare another one of the name; Kubernetes deletes the Secret with it."""
        await self.backend.delete(resource("User", "joe"))
        self.server.secrets.clear()
        self.body["metadata"]["uid"] = "u2"
        self.body["status"] = {}

    def annotate(self, value: str) -> None:
        """Ask for a new invite."""
        self.body["metadata"]["annotations"][RENEW_INVITE] = value

    async def record(self) -> User:
        """Return the record of the user."""
        return decode(User, (await self.backend.get(resource("User", "joe"))).value)

    async def invite(self) -> SignupInvite:
        """Return the record's invite."""
        invite = (await self.record()).metadata.invite
        assert invite is not None
        return invite

    async def consume(self) -> None:
        """Sign up, as auth writes it."""
        item = await self.backend.get(resource("User", "joe"))
        user = decode(User, item.value)
        invite = await self.invite()
        used = invite.model_copy(update={"consumed": self.clock.now()})
        await self.backend.put(item.key, encode(user.with_invite(used)))

    def secret(self) -> dict[str, str]:
        """Return what the Secret holds."""
        return {key: base64.b64decode(value).decode() for key, value in self.server.secrets[SECRET]["data"].items()}

    def token(self) -> str:
        """Return the token in the Secret."""
        return self.secret()["token"] if SECRET in self.server.secrets else ""

    def said(self) -> tuple[str, str]:
        """Return status and reason of the condition InviteReady."""
        found = self.body["status"]["conditions"]
        return next((each["status"], each["reason"]) for each in found if each["type"] == "InviteReady")


def merged(before: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a merge patch makes."""
    after = dict(before)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = merged(after.get(key, {}), value) if isinstance(value, dict) else value
    return after


async def test_a_new_user_is_invited() -> None:
    """Token, link and expiry are in a Secret that goes with the User; the record has the digest, the status neither."""
    world = World()
    await world.look()
    secret, invite = world.secret(), await world.invite()
    assert secret == {
        "token": world.token(),
        "url": f"https://{WEB}/web/newuser/{world.token()}",
        "expires": "2027-01-02T04:04:05Z",
    }
    assert len(world.token()) == 32
    assert invite == SignupInvite(
        digest=digest_of(world.token()), issued=world.clock.now(), expires=world.clock.now() + HOUR
    )
    metadata = world.server.secrets[SECRET]["metadata"]
    assert [(each["kind"], each["uid"]) for each in metadata["ownerReferences"]] == [("User", "u1")]
    assert world.said() == ("True", "Pending")
    assert world.body["status"]["invite"] == {"secretName": "joe-invite", "expires": "2027-01-02T04:04:05Z"}
    before = await world.backend.get(resource("User", "joe"))
    assert (await world.look()).result == "unchanged"
    assert await world.backend.get(resource("User", "joe")) == before
    assert (world.server.writes, world.news) == (1, [])


async def test_the_documents_ttl_counts() -> None:
    """Of the moment at which the invite is minted."""
    world = World()
    world.body["spec"]["invite"] = {"ttl": "2m"}
    await world.look()
    assert (await world.invite()).expires == world.clock.now() + timedelta(minutes=2)
    assert world.context.deadlines != {}


async def test_a_sign_up_is_told() -> None:
    """In the condition, in the status, and in one Event."""
    world = World()
    await world.look()
    await world.consume()
    assert (await world.look()).result == "unchanged"
    assert world.said() == ("False", "Consumed")
    assert world.body["status"]["invite"]["consumed"] == "2027-01-02T03:04:05Z"
    await world.look()
    assert (world.news, world.context.deadlines) == (["Consumed"], {})


async def test_the_end_of_an_invite_is_told_and_one_annotation_renews_it_once() -> None:
    """Expired is news; a new value of the annotation mints a new invite, the same value seen again does not."""
    world = World()
    await world.look()
    old = await world.invite()
    world.clock.advance(HOUR)
    await world.look()
    assert (world.said(), world.news) == (("False", "Expired"), ["Expired"])
    message = world.body["status"]["conditions"][-1]["message"]
    assert f"kubectl -n team annotate user joe {RENEW_INVITE}=$(date +%s) --overwrite" in message

    world.annotate("monday")
    await world.look()
    new = await world.invite()
    assert new.digest == digest_of(world.token()) != old.digest
    assert new.expires == world.clock.now() + HOUR
    assert world.said() == ("True", "Pending")
    assert world.body["status"]["invite"]["renewal"] == "monday"
    for value in ("monday", ""):
        world.annotate(value)
        await world.look()
        assert await world.invite() == new


async def test_renewed_after_it_was_used_the_user_starts_anew() -> None:
    """The status forgets the use, and the record is another person, so that the old password ends."""
    world = World()
    await world.look()
    before = await world.record()
    await world.consume()
    await world.look()
    world.annotate("x" * 200)
    await world.look()
    after = await world.record()
    assert after.metadata.id != before.metadata.id
    assert world.said() == ("True", "Pending")
    assert set(world.body["status"]["invite"]) == {"secretName", "expires", "renewal"}


@pytest.mark.parametrize("renewed", [False, True])
async def test_killed_between_the_secret_and_the_record(renewed: bool) -> None:
    """The next look goes on with the token that is in the Secret: a link that was seen already stays good."""
    world = World()
    if renewed:
        await world.look()
        await world.consume()
        await world.look()
        world.annotate("again")
    world.backend.fatal = True
    with pytest.raises(Killed):
        await world.look()
    token = world.token()
    world.backend.fatal = False
    await world.look()
    assert (await world.invite()).digest == digest_of(token)
    assert world.token() == token
    assert (await world.invite()).consumed is None


async def test_a_user_that_is_declared_anew_is_another_person() -> None:
    """It has another id and another invite."""
    world = World()
    await world.look()
    first = await world.record()
    await world.declare_anew()
    await world.look()
    second = await world.record()
    assert first.metadata.id != second.metadata.id
    assert second.metadata.invite is not None
    assert second.metadata.invite.digest == digest_of(world.token())


async def test_the_secret_of_an_earlier_user_is_waited_for() -> None:
    """Its link is nobody's any more: nothing is written until Kubernetes has deleted it."""
    world = World()
    await world.look()
    secrets = dict(world.server.secrets)
    await world.declare_anew()
    world.server.secrets = secrets
    with pytest.raises(Exception, match="belongs to an earlier User"):
        await world.look()
    with pytest.raises(NotFound):
        await world.record()


async def test_a_secret_of_somebody_else_is_left_alone() -> None:
    """A new user is not declared without its invite; of one who is there, what else was edited is written."""
    world = World()
    theirs = {"metadata": {"name": "joe-invite", "labels": {}}, "data": {"token": "eA=="}}
    world.server.secrets[SECRET] = theirs
    verdict, error = await judge(world.context, "User", world.body)
    assert (verdict.ready.reason, verdict.ready.status) == ("SecretTaken", False)
    assert error is not None
    world.server.secrets.clear()
    await world.look()
    world.server.secrets[SECRET] = theirs
    world.annotate("monday")
    world.body["spec"]["logins"] = ["root"]
    assert (await world.look()).again
    assert (await world.record()).spec.logins == ("root",)
    assert (world.said(), world.news) == (("False", "SecretTaken"), ["SecretTaken"])
    assert world.server.secrets[SECRET] == theirs
    world.server.secrets.clear()
    await world.look()
    assert world.said() == ("True", "Pending")
    assert (await world.invite()).digest == digest_of(world.token())


async def test_without_the_right_to_write_secrets() -> None:
    """Rights are taken away all the same, and the condition says what is missing."""
    world = World()
    await world.look()
    world.server.secrets.clear()
    world.server.denies = True
    world.body["spec"]["logins"] = ["root"]
    await world.look()
    assert (await world.record()).spec.logins == ("root",)
    assert world.said() == ("False", "PermissionDenied")


async def test_who_has_credentials_is_not_invited() -> None:
    """Neither at first, nor asked for; and a link that was open ends when credentials are named."""
    world = World()
    world.body["spec"]["credentialsSecretRef"] = {"name": "login"}
    world.annotate("monday")
    await world.look()
    assert world.said() == ("False", "NotNeeded")
    assert (await world.record()).metadata.invite is None
    assert world.server.secrets == {}
    assert world.news == []
    assert "invite" not in world.body["status"]

    world = World()
    await world.look()
    world.body["spec"]["credentialsSecretRef"] = {"name": "login"}
    await world.look()
    assert (await world.record()).metadata.invite is None
    assert world.body["status"]["invite"] == {}


async def test_who_is_adopted_keeps_what_it_has() -> None:
    """A user of tctl's has its ways in; Kubernetes invites it when it is asked to. Not adopted, it is left alone."""
    world = World()
    theirs = User.model_validate({"metadata": {"name": "joe"}, "spec": {"logins": ["joe"]}}).with_id("a" * 32)
    await world.backend.put(key_of(theirs), encode(theirs.with_origin(Origin.TCTL)))
    verdict, _ = await judge(world.context, "User", world.body)
    assert (verdict.result, world.server.secrets) == ("refused", {})
    world.body["metadata"]["annotations"]["teleport.internal/adopt"] = "true"
    await world.look()
    assert (world.said(), world.server.secrets) == (("False", "NotNeeded"), {})
    assert (await world.record()).metadata.id == "a" * 32
    world.annotate("monday")
    await world.look()
    assert world.said() == ("True", "Pending")
    assert (await world.record()).metadata.id != "a" * 32


async def test_the_proxys_address_may_come_later() -> None:
    """Until then the condition says so; then the link is completed, and follows when the address changes."""
    world = World(web="")
    await world.look()
    assert set(world.secret()) == {"token", "expires"}
    assert world.said() == ("False", "NoProxyAddress")
    token = world.token()
    for web in (WEB, "other.example.com:443"):
        facts = ClusterFacts(name="main", ca_pins=(), proxies=(ProxyAddresses(web=web, ssh="192.0.2.1:3023"),))
        assert world.context.facts.learn(encode(facts))
        world.server.crossed = 1
        await world.look()
        assert world.secret()["url"] == f"https://{web}/web/newuser/{token}"
        assert world.said() == ("True", "Pending")


@pytest.mark.parametrize("loss", ["deleted", "emptied", "replaced"])
async def test_a_token_that_is_lost_is_minted_anew(loss: str) -> None:
    """While nobody has signed up, the Secret holds a link that works."""
    world = World()
    await world.look()
    old = world.token()
    data = world.server.secrets[SECRET]["data"]
    match loss:
        case "deleted":
            world.server.secrets.clear()
        case "emptied":
            data.clear()
        case "replaced":
            data["token"] = base64.b64encode(old[::-1].encode()).decode()
    await world.look()
    assert world.token() not in (old, old[::-1])
    assert (await world.invite()).digest == digest_of(world.token())


async def test_a_record_that_cannot_be_read() -> None:
    """A newer version's stays, and nobody is invited."""
    world = World()
    await world.backend.put(resource("User", "joe"), b"{}")
    verdict, _ = await judge(world.context, "User", world.body)
    assert (verdict.result, world.server.secrets) == ("refused", {})


async def test_what_is_learnt_meanwhile_is_not_lost() -> None:
    """An address told while the Secret is made, before anybody knows of the user, has it looked at again at once."""
    facts = ClusterFacts(name="main", ca_pins=(), proxies=(ProxyAddresses(web=WEB, ssh="192.0.2.1:3023"),))
    world = World(web="")
    create = world.server.create

    async def told_meanwhile(path: str, body: Mapping[str, object]) -> dict[str, Any]:
        world.context.facts.learn(encode(facts))
        return await create(path, body)

    world.server.create = told_meanwhile  # type: ignore[method-assign]  # auth is quicker than the API server
    await world.look()
    assert world.context.deadlines[Ref("User", "team", "joe")] == world.clock.now()
    world.server.create = create  # type: ignore[method-assign]  # and back
    await world.look()
    assert world.context.deadlines[Ref("User", "team", "joe")] > world.clock.now()
