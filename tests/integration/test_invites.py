"""Links of new users, taken by the proxy's real page: those that tctl prints, and those that the operator mints."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pyotp
import pytest

from runtime.api import methods
from runtime.api.people_messages import SignupForm, SignupQuery
from runtime.api.token_messages import TokenRequest
from runtime.core import keys
from runtime.core.callers import CallerKind
from runtime.core.cluster_facts import ClusterFacts
from runtime.core.resources import Origin, SignupInvite, User, decode, encode, key_of
from runtime.core.resources.token import digest_of
from tests.servers.auth_thread import AuthThread, auth_thread
from tests.servers.webproxy import PASSWORD, WebCluster, login, web_cluster

TOKEN = "00112233445566778899aabbccddeeff"
PATH = f"/web/newuser/{TOKEN}"
SECRET = re.compile(r'id="secret">([A-Z2-7 ]+)<')
PERSON = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: NAME}
spec: {logins: [NAME], invite: {ttl: 5m}}
"""
MACHINE = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: bot}
spec: {logins: [bot], credentialsSecretRef: {name: bot-login}}
---
apiVersion: v1
kind: Secret
metadata: {name: bot-login}
stringData: {password: correct horse battery, otpSecret: JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP}
"""


# --- the page ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running, with a user joe of Kubernetes who is invited with TOKEN."""
    async with web_cluster(tmp_path) as cluster:
        now = cluster.clock.now()
        joe = User.model_validate({"metadata": {"name": "joe", "namespace": "team"}, "spec": {"logins": ["joe"]}})
        invite = SignupInvite(digest=digest_of(TOKEN), issued=now, expires=now + timedelta(hours=1))
        await cluster.backend.put(key_of(joe), encode(joe.with_origin(Origin.KUBERNETES).with_invite(invite)))
        yield cluster


async def invite_of(cluster: WebCluster) -> SignupInvite | None:
    """Return the invite in joe's record."""
    return decode(User, (await cluster.backend.get(keys.resource("User", "joe"))).value).metadata.invite


async def phone_of(http: aiohttp.ClientSession) -> pyotp.TOTP:
    """Open the link, and return what a phone then holds."""
    async with http.get(PATH) as response:
        found = SECRET.search(await response.text())
    assert found
    return pyotp.TOTP(found[1].replace(" ", ""))


async def submit(http: aiohttp.ClientSession, otp: str, password: str = PASSWORD) -> int:
    """Send the form, and return the status."""
    form = {"password": password, "again": password, "otp": otp}
    async with http.post(PATH, data=form) as response:
        return response.status


async def test_the_link_of_the_operator(cluster: WebCluster) -> None:
    """Its page shows one QR code however often it is opened; what is mistyped uses nothing up; it works once."""
    async with cluster.http() as http:
        phone = await phone_of(http)
        assert (await phone_of(http)).secret == phone.secret
        assert await submit(http, "000000") == 400
        assert await submit(http, phone.at(cluster.clock.now()), password="short") == 400
        invite = await invite_of(cluster)
        assert invite is not None
        assert invite.consumed is None
        assert await submit(http, phone.at(cluster.clock.now())) == 200
        invite = await invite_of(cluster)
        assert invite is not None
        assert invite.consumed is not None
        soon = cluster.clock.now() + timedelta(seconds=30)  # the code of now is used
        assert await submit(http, phone.at(soon)) == 403
        async with http.post("/webapi/login", json=login(phone.at(soon))) as response:
            assert response.status == 200, await response.text()


async def test_a_link_that_is_not_good(cluster: WebCluster) -> None:
    """Guesses, and the digest that anybody who reads documents knows, open nothing."""
    async with cluster.http() as http:
        for token in (TOKEN[::-1], digest_of(TOKEN), digest_of(TOKEN)[:32]):
            async with http.get(f"/web/newuser/{token}") as response:
                assert response.status == 403


async def test_the_log_and_the_storage_have_no_token(cluster: WebCluster) -> None:
    """After a sign-up."""
    async with cluster.http() as http:
        phone = await phone_of(http)
        assert await submit(http, phone.at(cluster.clock.now())) == 200
    stored = [item for space in ("resources/", "secrets/") for item in (await cluster.backend.range(space)).items]
    assert all(TOKEN not in item.key and TOKEN.encode() not in item.value for item in stored)
    logged = "".join(path.read_text() for path in (cluster.folder / "log").rglob("*") if path.is_file())
    assert "user.signup" in logged
    assert TOKEN not in logged


async def test_auth_tells_how_the_cluster_is_known(cluster: WebCluster) -> None:
    """The pin of the public record is what tctl prints with a token."""
    created = await cluster.admin.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
    facts = decode(ClusterFacts, (await cluster.backend.get(keys.CLUSTER_FACTS)).value)
    assert (facts.name, facts.ca_pins) == ("main", (created.ca_pin,))


# --- tctl --------------------------------------------------------------------------------------------------------


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Yield a running auth service."""
    with auth_thread(tmp_path / "auth") as auth:
        yield auth


def links(text: str) -> list[str]:
    """Return the tokens of the links in a text."""
    return re.findall(r"/web/newuser/([0-9a-f]{32})$", text, re.MULTILINE)


def invited(auth: AuthThread, token: str) -> SignupForm:
    """Return what the page of a link shows."""
    query = SignupQuery.model_validate({"token": token, "address": "192.0.2.1"})
    form = auth.local(
        CallerKind.PROXY, str(auth.identity(CallerKind.PROXY).id), lambda proxy: proxy.call(methods.SIGNUP_SHOW, query)
    )
    assert isinstance(form, SignupForm)
    return form


@pytest.mark.parametrize("command", ["apply", "create"])
def test_a_new_user_gets_its_link_once(auth: AuthThread, command: str) -> None:
    """With the ttl of its document; a machine gets none, and who is there already is left alone."""
    ann, bob = (PERSON.replace("NAME", name) for name in ("ann", "bob"))
    outcome = auth.tctl(command, "-f", "-", stdin=f"{ann}---{MACHINE}")
    assert (outcome.code, outcome.err) == (0, "")
    assert "valid for 300 seconds" in outcome.out
    (token,) = links(outcome.out)
    assert invited(auth, token).user == "ann"
    again = auth.tctl("apply", "-f", "-", stdin=f"{ann}---{bob}")
    (other,) = links(again.out)
    assert invited(auth, other).user == "bob"
    assert invited(auth, token).user == "ann"
    assert [event["user"] for event in auth.events() if event["event"] == "user.invited"] == ["ann", "bob"]
    assert token not in json.dumps(auth.events())


def test_the_link_for_programs(auth: AuthThread) -> None:
    """With --format=json it stands with its user."""
    outcome = auth.tctl("apply", "--format=json", "-f", "-", stdin=PERSON.replace("NAME", "ann"))
    assert outcome.code == 0, outcome.err
    (done,) = json.loads(outcome.out)["done"]
    assert (done["name"], done["invite"]["user"]) == ("ann", "ann")
    assert invited(auth, done["invite"]["token"]).user == "ann"
