"""Identities at the start: from data_dir, else by joining; and how far two clocks may be apart."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.audit.log import EventLog
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.auth.tokens import JoinToken
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock, ManualClock, SystemClock
from runtime.core.errors import AccessDenied, InvalidSettings, Unavailable
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir, identities_of
from runtime.service.joining import REFUSED_SECONDS, obtain
from runtime.service.member import AuthServers

TOKEN = "0123456789abcdef0123456789abcdef"
CLOCK = SystemClock()


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """Yield the address of an auth service with a static token for nodes."""
    backend, log = MemoryBackend(clock=CLOCK), EventLog(tmp_path / "log", CLOCK)
    options = AuthOptions(
        address="127.0.0.1",
        port=0,
        cluster_name="main",
        static_tokens=(JoinToken(token=TOKEN, roles=("node",), static=True),),
    )
    authorities = await open_authorities(backend, options, CLOCK)
    service = AuthService(options, backend=backend, authorities=authorities, clock=CLOCK, audit=log, auth_servers=tuple)
    key = generate_key()
    membership = service.members.local(CallerKind.AUTH, "localhost", (), key.public.line)
    own = identities_of(membership, key.to_openssh(), "main")[CallerKind.AUTH]
    host, port = await service.start(
        host_key=own.key.get_secret_value().encode(), host_certificate=own.host_certificate.encode()
    )
    yield f"{host}:{port}"
    await service.stop()
    await backend.close()
    log.close()


async def pause_not(_: float) -> None:
    """Try again at once."""


async def start(
    data: Path,
    server: str,
    *,
    clock: Clock = CLOCK,
    token: str | None = TOKEN,
    pause: Callable[[float], Awaitable[None]] = pause_not,
) -> bytes:
    """Obtain a node's identity, and return its certificate."""
    data_dir = DataDir(data)
    data_dir.open()
    identities = await obtain(
        [CallerKind.NODE],
        data_dir=data_dir,
        servers=AuthServers(data_dir, [server]),
        token=SecretStr(token) if token else None,
        ca_pin=None,
        name="luna",
        advertised=["127.0.0.1"],
        clock=clock,
        pause=pause,
    )
    return identities[CallerKind.NODE].member_certificate.encode()


async def test_joined_once(address: str, tmp_path: Path) -> None:
    """The second start needs neither token nor auth."""
    first = await start(tmp_path / "data", address)
    assert await start(tmp_path / "data", "127.0.0.1:1", token=None) == first


async def test_a_token_in_a_file_that_comes_later(address: str, tmp_path: Path) -> None:
    """A machine waits for the file that is to hold its token, and joins with what is in it then."""
    file, pauses = tmp_path / "token", 0

    async def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            file.write_text(f"{TOKEN}\n")

    assert await start(tmp_path / "data", address, token=str(file), pause=pause)
    assert pauses == 2


async def test_a_refused_token_in_a_file_is_waited_out(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine whose file holds a token that is not good any more says so once, and joins with the next one."""
    file, pauses = tmp_path / "token", 0
    file.write_text("f" * 32)

    async def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            file.unlink()
        if pauses == 5:
            file.write_text(TOKEN)

    assert await start(tmp_path / "data", address, token=str(file), pause=pause)
    assert pauses == 5
    (said,) = [each.getMessage() for each in caplog.records if "may not join" in each.getMessage()]
    assert said.startswith("this machine may not join the cluster: the token is not valid")
    assert said.endswith(f"Trying again with what comes into {file}.")


async def test_a_refused_token_is_shown_again_after_minutes(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same content is not shown over and over: once in five minutes, since it may be a clock that was wrong."""
    file, waited = tmp_path / "token", 0.0
    file.write_text("f" * 32)

    async def pause(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        if waited > 2 * REFUSED_SECONDS:
            raise Unavailable("the test has seen enough")

    with pytest.raises(Unavailable, match="enough"):
        await start(tmp_path / "data", address, token=str(file), pause=pause)
    assert sum("may not join" in each.getMessage() for each in caplog.records) == 3


async def test_a_refused_token_that_was_given_as_such_ends_it(address: str, tmp_path: Path) -> None:
    """Nothing can come in the place of a token on the command line: the start fails, and says why."""
    with pytest.raises(AccessDenied, match="may not join the cluster: the token is not valid"):
        await start(tmp_path / "data", address, token="f" * 32)


async def test_an_identity_that_has_ended_needs_a_token(address: str, tmp_path: Path) -> None:
    """Certificates that ended while the machine was off are said to have ended, and a token makes new ones."""
    await start(tmp_path / "data", address)
    later = ManualClock(CLOCK.now() + timedelta(days=3))
    with pytest.raises(InvalidSettings, match=r"the certificates of node ended at .* UTC: a token is needed"):
        await start(tmp_path / "data", address, clock=later, token=None)


async def test_an_identity_that_is_broken_needs_a_token(address: str, tmp_path: Path) -> None:
    """A file that is no identity is named, and a token replaces it."""
    await start(tmp_path / "data", address)
    (tmp_path / "data" / "node.identity").write_text("{}")
    with pytest.raises(InvalidSettings, match=r"node\.identity is not an identity"):
        await start(tmp_path / "data", address, token=None)
    assert await start(tmp_path / "data", address)


async def test_a_clock_that_is_hours_ahead(address: str, tmp_path: Path) -> None:
    """Joining with a clock that is hours ahead is refused, and the clock is named."""
    wrong = ManualClock(CLOCK.now() + timedelta(hours=3))
    with pytest.raises(InvalidSettings, match=r"this machine is 1[0-9]{4} s ahead of that of the auth"):
        await start(tmp_path / "data", address, clock=wrong)
    assert not (tmp_path / "data" / "node.identity").exists()


async def test_a_clock_that_is_hours_behind(address: str, tmp_path: Path) -> None:
    """With a clock that is hours behind not even auth's own certificate is valid yet; the hint names the clocks."""
    wrong = ManualClock(CLOCK.now() - timedelta(hours=3))
    with pytest.raises(AccessDenied, match="the certificate is not valid before") as refused:
        await start(tmp_path / "data", address, clock=wrong)
    assert refused.value.hint == "Check both machines' clocks."
    assert not (tmp_path / "data" / "node.identity").exists()


async def test_pauses_grow_up_to_half_a_minute(tmp_path: Path) -> None:
    """While auth is away tries become rarer, never rarer than each 30 s, and are not in step with others'."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise Unavailable("the test has seen enough")

    data_dir = DataDir(tmp_path)
    with pytest.raises(Unavailable, match="enough"):
        await obtain(
            [CallerKind.NODE],
            data_dir=data_dir,
            servers=AuthServers(data_dir, ["127.0.0.1:1"]),
            token=SecretStr(TOKEN),
            ca_pin=None,
            name="luna",
            advertised=[],
            clock=CLOCK,
            pause=pause,
            rng=random.Random(1),
        )
    assert all(
        bound / 2 <= seconds <= bound for seconds, bound in zip(pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True)
    )
