"""What Users and TrustedClusters take from their Secrets; the API server is a dictionary here."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import NotFound
from runtime.core.resources import Resource, TrustedCluster, User, read_object
from runtime.pki.sealed_token import token_in
from runtime.pki.sealing import SealingKey
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.objects import NO_SECRET, Objects, Ref
from teleport_operator.secrets.credentials import credentials_of, trust_means_of
from teleport_operator.secrets.referenced import NotedSecrets, secrets_of
from teleport_operator.verdicts.reconciling import Unready

PASSWORD = "correct horse battery staple"
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
KEY = SealingKey.new()
BOT = Ref("User", "team", "bot")
OPT_IN = {"teleport.internal/secret": "true"}


def document(kind: str, name: str, **spec: Any) -> Resource:
    """Return a document."""
    data = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": {"name": name, "namespace": "team"}}
    return read_object({**data, "spec": spec}, source="test")


def bot() -> User:
    """Return a user with a Secret."""
    found = document("User", "bot", logins=["a"], credentialsSecretRef={"name": "login"})
    assert isinstance(found, User)
    return found


def cluster(**spec: Any) -> TrustedCluster:
    """Return a trusted cluster."""
    found = document("TrustedCluster", "main", proxy={"tunnelAddr": "m:3024", "webAddr": "m:3080"}, **spec)
    assert isinstance(found, TrustedCluster)
    return found


def secret(name: str, values: dict[str, str | bytes], labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a Secret."""
    raw = {key: value if isinstance(value, bytes) else value.encode() for key, value in values.items()}
    data = {key: base64.b64encode(value).decode() for key, value in raw.items()}
    return {
        "metadata": {
            "name": name,
            "uid": "u-1",
            "resourceVersion": "7",
            "labels": OPT_IN if labels is None else labels,
        },
        "data": data,
    }


class Server:
    """Keeps Secrets."""

    def __init__(self, *secrets: dict[str, Any]) -> None:
        self.secrets = {f"/api/v1/namespaces/team/secrets/{each['metadata']['name']}": each for each in secrets}

    async def get(self, path: str) -> dict[str, Any]:
        """Return a Secret."""
        try:
            return self.secrets[path]
        except KeyError:
            raise NotFound(path) from None


def noted(*secrets: dict[str, Any]) -> tuple[NotedSecrets, Objects]:
    """Return the way to Secrets for the user bot."""
    objects = Objects()
    objects.refer(BOT, ["login", "join", "ca"])
    return NotedSecrets(cast("ApiServer", Server(*secrets)), objects, BOT), objects


@pytest.fixture
async def backend() -> AsyncIterator[MemoryBackend]:
    """Open a backend in which auth has left its key."""
    opened = MemoryBackend(clock=ManualClock(datetime(2027, 1, 2, tzinfo=UTC)))
    await opened.put("public/sealing-key", base64.b64encode(KEY.public))
    yield opened
    await opened.close()


async def test_credentials_are_for_auth_alone(backend: MemoryBackend) -> None:
    """In a box about this user; what `echo` and an editor leave at the ends is no part of them."""
    found, objects = noted(secret("login", {"password": f"{PASSWORD}\n", "otpSecret": f" {SEED}\n", "more": "x"}))
    sealed = await credentials_of(found, backend, bot())
    assert sealed is not None
    assert sealed.source.startswith("u-1/7/")
    assert sealed.box is not None
    assert json.loads(KEY.open(sealed.box, about="User/bot")) == {"password": PASSWORD, "otpSecret": SEED}
    assert PASSWORD not in repr(sealed)
    assert not objects.sees(BOT, "login", "7")
    found, _ = noted(secret("login", {"password": PASSWORD}))
    without = await credentials_of(found, backend, bot())
    assert without is not None
    assert json.loads(KEY.open(without.box or "", about="User/bot")) == {"password": PASSWORD}
    await backend.put("public/sealing-key", base64.b64encode(SealingKey.new().public))
    other = await credentials_of(found, backend, bot())
    assert other is not None
    assert other.source != without.source  # to another key: it has to be sealed anew


async def test_who_is_invited_has_none(backend: MemoryBackend) -> None:
    """No Secret is asked for."""
    found, _ = noted()
    joe = document("User", "joe", logins=["a"])
    assert isinstance(joe, User)
    assert await credentials_of(found, backend, joe) is None


@pytest.mark.parametrize(
    ("secrets", "reason", "said"),
    [
        ([], "SecretNotFound", "there is no Secret login, which spec.credentialsSecretRef names"),
        ([secret("login", {"password": PASSWORD}, {})], "SecretNotOptedIn", "kubectl label secret login"),
        ([secret("login", {"otpSecret": SEED})], "SecretInvalid", "has no key password"),
        ([secret("login", {"password": b"\xff"})], "SecretInvalid", "password: is no text"),
        ([secret("login", {"password": " \n"})], "SecretInvalid", "password: is empty"),
        ([secret("login", {"password": PASSWORD, "otpSecret": SEED * 99})], "SecretInvalid", "otpSecret: is too long"),
    ],
    ids=["none", "not opted in", "no password", "binary", "blank", "long"],
)
async def test_secrets_of_no_use(backend: MemoryBackend, secrets: list[dict[str, Any]], reason: str, said: str) -> None:
    """Each says what is amiss, and shows no value. One that may not be used is as good as none to the watch."""
    found, objects = noted(*secrets)
    with pytest.raises(Unready) as caught:
        await credentials_of(found, backend, bot())
    assert caught.value.reason == reason
    assert said in f"{caught.value}. {caught.value.hint}"
    assert PASSWORD not in str(caught.value)
    version = "7" if reason == "SecretInvalid" else NO_SECRET
    assert not objects.sees(BOT, "login", version)


async def test_before_auth_has_run(backend: MemoryBackend) -> None:
    """There is nobody yet to seal anything to."""
    await backend.delete("public/sealing-key")
    found, _ = noted(secret("login", {"password": PASSWORD}))
    with pytest.raises(Unready, match="no auth server has run") as caught:
        await credentials_of(found, backend, bot())
    assert caught.value.reason == "NoAuthServer"


async def test_what_a_trusted_cluster_is_joined_by(backend: MemoryBackend) -> None:
    """A token with the pin beside it, sealed to auth, or authorities; nothing else that is in the Secret."""
    found, _ = noted(
        secret("join", {"token": "t0ken\n", "caPin": "SHA256:x", "password": PASSWORD}), secret("ca", {"pub": "key a"})
    )
    by_token = cluster(tokenSecretRef={"name": "join"})
    means = await trust_means_of(found, backend, by_token)
    assert "t0ken" not in means.model_dump_json()
    assert (token_in(means, KEY, cluster="main"), means.ca_pin, means.ca) == ("t0ken", "SHA256:x", None)
    by_key = cluster(caSecretRef={"name": "ca", "key": "pub"})
    means = await trust_means_of(found, backend, by_key)
    assert (means.has_token, means.ca_pin, means.ca) == (False, None, "key a")
    for lacking, said in (
        (cluster(caSecretRef={"name": "ca"}), "has no key ca"),
        (cluster(tokenSecretRef={"name": "gone"}), "there is no Secret gone, which spec.tokenSecretRef names"),
    ):
        with pytest.raises(Unready, match=said):
            await trust_means_of(found, backend, lacking)
    await backend.delete("public/sealing-key")
    assert await trust_means_of(found, backend, by_key) == means  # which is no secret
    with pytest.raises(Unready, match="no auth server has run") as caught:
        await trust_means_of(found, backend, by_token)
    assert caught.value.reason == "NoAuthServer"


def test_which_secrets_a_document_refers_to() -> None:
    """By name, in its own namespace; a Token always to one."""
    assert secrets_of(bot()) == ("login",)
    assert secrets_of(cluster(caSecretRef={"name": "ca"})) == ("ca",)
    assert secrets_of(document("Token", "web", roles=["node"])) == ("web-token",)
    assert secrets_of(document("Token", "web", roles=["node"], secretRef={"name": "mine"})) == ("mine",)
    assert secrets_of(document("Role", "dev")) == ()
    assert secrets_of(document("User", "joe", logins=["a"])) == ()
