"""Secrets that documents refer to: what one holds counts within seconds, and so does that it appears, or goes."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pyotp
import pytest
from pydantic import SecretStr

from runtime.api import methods
from runtime.api.credential_messages import CredentialsRequest
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from runtime.core.resources import Token, User
from runtime.core.resources.token import digest_of
from teleport_operator.settings import RECHECK_SECONDS
from tests.e2e.declaring import Declaring, all_stored, document, install, stored, until
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator, start_operator
from tests.servers.people import PASSWORD, tsh_login
from tests.servers.teleport import Teleport, admin

EFFECT_SECONDS = 30.0
"""How long a change of a Secret may take to count here. Alone on a machine it is one; without the watch, a minute."""
SECRETS = "/api/v1/namespaces/default/secrets"
OPT_IN = {"teleport.internal/secret": "true"}
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"
OTHER = "00112233445566778899aabbccddeeff"
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(scope="module")
def teleport(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run auth and a proxy, for which the storage is the truth."""
    install(control_plane)
    folder = tmp_path_factory.mktemp("secrets") / "teleport"
    with Teleport(folder, ("auth", "proxy"), config={"auth_service": {"dynamic_config": True}}).start() as running:
        yield running


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, teleport: Teleport) -> Iterator[Operator]:
    """Run the operator on the same storage."""
    with start_operator(control_plane, teleport.config_file, log=teleport.folder.parent / "operator.log") as running:
        yield running


@pytest.fixture
def kubernetes(control_plane: ControlPlane, operator: Operator) -> Iterator[Declaring]:
    """Declare things; they are gone after the test."""
    declaring = Declaring(control_plane)
    yield declaring
    declaring.clear()
    declaring.close()


def put_secret(kubernetes: Declaring, name: str, *, opted_in: bool = True, **values: str) -> None:
    """Create a Secret, or replace what it holds."""
    secret: dict[str, Any] = {
        "metadata": {"name": name, "labels": OPT_IN if opted_in else {}},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
    if kubernetes.api.request("POST", SECRETS, secret)[0] == HTTPStatus.CONFLICT:
        kubernetes.api.done("PUT", f"{SECRETS}/{name}", secret)


@pytest.fixture
async def backend(teleport: Teleport) -> AsyncIterator[Backend]:
    """Open the storage."""
    opened = await open_backend(SqliteOptions(str(teleport.data_dir / "backend.sqlite")), clock=SystemClock())
    yield opened
    await opened.close()


async def digest(backend: Backend, name: str) -> str:
    """Return what the backend keeps of a token's value."""
    token = await stored(backend, "Token", name)
    assert isinstance(token, Token)
    assert token.metadata.issued is not None
    return token.metadata.issued.digest


async def holds(teleport: Teleport, user: str, password: str, seed: str) -> bool:
    """Return whether auth has these credentials for a user."""
    async with admin(teleport) as auth:
        asked = CredentialsRequest(user=user, password=SecretStr(password), otp_secret=SecretStr(seed), check=True)
        return (await auth.call(methods.USERS_CREDENTIALS, asked)).held


async def test_another_value_in_a_tokens_secret_counts_within_seconds(kubernetes: Declaring, backend: Backend) -> None:
    """The old one is no token any more. A Secret that is deleted is made anew, and one that withdraws is not used."""
    own = document("Token", "own", roles=["node"], secretRef={"name": "mine"})
    made = document("Token", "made", roles=["node"])
    await asyncio.to_thread(put_secret, kubernetes, "mine", token=VALUE)
    await asyncio.to_thread(kubernetes.declare, own, made)
    await asyncio.to_thread(kubernetes.wait, own, made)
    assert await digest(backend, "own") == digest_of(VALUE)
    first = await digest(backend, "made")

    await asyncio.to_thread(put_secret, kubernetes, "mine", token=OTHER)
    await asyncio.to_thread(kubernetes.api.done, "DELETE", f"{SECRETS}/made-token")
    await until(lambda: _is(digest(backend, "own"), digest_of(OTHER)), timeout=EFFECT_SECONDS)
    await until(lambda: _is_not(digest(backend, "made"), first), timeout=EFFECT_SECONDS)
    assert "made-token" in await asyncio.to_thread(kubernetes.secrets)

    await asyncio.to_thread(put_secret, kubernetes, "mine", opted_in=False, token=VALUE)
    said = await asyncio.to_thread(kubernetes.wait, own, reason="SecretNotOptedIn")
    assert "kubectl label secret mine teleport.internal/secret=true" in said["message"]
    assert await digest(backend, "own") == digest_of(OTHER)
    await asyncio.to_thread(put_secret, kubernetes, "mine", token=VALUE)
    await asyncio.to_thread(kubernetes.wait, own)
    assert await digest(backend, "own") == digest_of(VALUE)


async def test_a_machine_logs_in_with_what_its_secret_holds(
    kubernetes: Declaring, teleport: Teleport, backend: Backend, tmp_path: Path
) -> None:
    """Without the Secret it says so, and all else that it says counts; with it, it logs in; the password is nowhere."""
    bot = document("User", "ci-bot", logins=["ci"], credentialsSecretRef={"name": "ci-bot-login"})
    await asyncio.to_thread(kubernetes.declare, bot)
    said = await asyncio.to_thread(kubernetes.wait, bot, reason="SecretNotFound")
    assert said["status"] == "False"
    assert "there is no Secret ci-bot-login" in said["message"]
    assert "with the label teleport.internal/secret=true" in said["message"]
    there = await stored(backend, "User", "ci-bot")
    assert isinstance(there, User)
    assert there.spec.logins == ("ci",)

    # Before it would be looked at again anyhow, which is after 48 s at the earliest.
    started = time.monotonic()
    await asyncio.to_thread(put_secret, kubernetes, "ci-bot-login", password=PASSWORD, otpSecret=SEED)
    await asyncio.to_thread(kubernetes.wait, bot)
    assert time.monotonic() - started < RECHECK_SECONDS * 0.8
    told = await asyncio.to_thread(tsh_login, teleport, tmp_path / "home", "ci-bot", pyotp.TOTP(SEED))
    assert told.returncode == 0, told.stderr

    await asyncio.to_thread(put_secret, kubernetes, "ci-bot-login", password=f"{PASSWORD}, anew", otpSecret=SEED)
    await until(lambda: holds(teleport, "ci-bot", f"{PASSWORD}, anew", SEED))
    assert not await holds(teleport, "ci-bot", PASSWORD, SEED)
    await asyncio.to_thread(kubernetes.wait, bot)
    there = await stored(backend, "User", "ci-bot")
    assert isinstance(there, User)
    assert there.metadata.credentials is not None
    assert there.metadata.credentials.box is None  # auth has taken it out
    everything = b"".join(
        [item.value for space in ("resources/", "public/") for item in (await backend.range(space)).items]
    )
    assert PASSWORD.encode() not in everything
    assert SEED.encode() not in everything
    shown = await asyncio.to_thread(teleport.tctl, "get", "users/ci-bot", "--format=yaml")
    assert "credentials:" not in shown.stdout


async def test_credentials_that_auth_refuses(kubernetes: Declaring, teleport: Teleport) -> None:
    """What nobody could log in with is told of, with what to change; changed, it is taken."""
    bot = document("User", "weak-bot", logins=["ci"], credentialsSecretRef={"name": "weak"})
    await asyncio.to_thread(put_secret, kubernetes, "weak", password="short")
    await asyncio.to_thread(kubernetes.declare, bot)
    said = await asyncio.to_thread(kubernetes.wait, bot, reason="CredentialsRefused")
    assert "the password has fewer than" in said["message"]
    assert "short" not in said["message"].replace("shorter", "")
    await asyncio.to_thread(put_secret, kubernetes, "weak", password=PASSWORD)
    await asyncio.to_thread(put_secret, kubernetes, "weak", password=PASSWORD, otpSecret=SEED)
    await asyncio.to_thread(kubernetes.wait, bot)
    assert await holds(teleport, "weak-bot", PASSWORD, SEED)
    await asyncio.to_thread(put_secret, kubernetes, "weak", otpSecret=SEED)
    said = await asyncio.to_thread(kubernetes.wait, bot, reason="SecretInvalid")
    assert "has no key password" in said["message"]
    assert await holds(teleport, "weak-bot", PASSWORD, SEED)


KEPT = [
    document("Role", "kept", deletionPolicy="Keep", allow={"logins": ["a"]}),
    document("User", "kept", deletionPolicy="Keep", logins=["a"]),
    document("Token", "kept", deletionPolicy="Keep", roles=["node"]),
    document(
        "TrustedCluster",
        "kept",
        deletionPolicy="Keep",
        enabled=False,
        proxy={"tunnelAddr": "kept:3024"},
        caSecretRef={"name": "none"},
    ),
]


async def test_what_is_to_be_kept_stays_and_is_taken_up_again(kubernetes: Declaring, backend: Backend) -> None:
    """Whatever kind it is of; a later document of its name finds it as its own, and one that says Delete ends it."""
    await asyncio.to_thread(kubernetes.declare, *KEPT)
    await asyncio.to_thread(kubernetes.wait, *KEPT[:3])
    await asyncio.to_thread(kubernetes.wait, KEPT[3], reason="SecretNotFound")
    before = await all_stored(backend)
    assert {kind for kind, name in before if name == "kept"} == {each["kind"] for each in KEPT}
    await asyncio.to_thread(kubernetes.delete, *KEPT)
    await asyncio.to_thread(kubernetes.wait_gone, *KEPT)
    assert await all_stored(backend) == before
    secret = kubernetes.api.done("GET", f"{SECRETS}/kept-token")
    assert "ownerReferences" not in secret["metadata"]  # nobody collects it with the Token

    await asyncio.to_thread(kubernetes.declare, *KEPT)
    await asyncio.to_thread(kubernetes.wait, *KEPT[:3])
    assert await all_stored(backend) == before
    # Deleted as soon as it says so, whether anybody has looked at that or not.
    ended = [{**each, "spec": {**each["spec"], "deletionPolicy": "Delete"}} for each in KEPT]
    await asyncio.to_thread(kubernetes.declare, *ended)
    await asyncio.to_thread(kubernetes.delete, *ended)
    await asyncio.to_thread(kubernetes.wait_gone, *ended)
    assert not [name for _, name in await all_stored(backend) if name == "kept"]


async def _is(found: Awaitable[str], expected: str) -> bool:
    return await found == expected


async def _is_not(found: Awaitable[str], unexpected: str) -> bool:
    return await found != unexpected
