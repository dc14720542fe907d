"""The auth role of `teleport start` over weeks: identities are reused while they are good, and then renewed.

Here it runs in this process, so that its clock can be moved; the SSH port is a real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.dial import Dialer
from runtime.api.messages import Nothing
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import Options
from runtime.cli.start_auth import AuthPart
from runtime.cli.start_storage import open_storage
from runtime.cli.surroundings import Surroundings
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock, ManualClock, SystemClock
from runtime.core.errors import Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import service_principal
from runtime.pki.verify import verify_host
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.load import resolve
from runtime.service.metrics import Metrics


class Auth:
    """An auth role on a data_dir, and a clock that is the machine's plus what it was moved by."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = DataDir(folder / "data")
        self.data_dir.open()
        self.clock = ManualClock(SystemClock().now())

    async def start(self, *, name: str = "luna") -> AuthPart:
        """Start it under that name, and return it."""
        settings = resolve(
            f"teleport: {{data_dir: {self.data_dir.path}}}\n"
            "auth_service: {cluster_name: main, listen_addr: '127.0.0.1:0'}\n"
        )
        surroundings = Surroundings(
            name=name, hosts=("127.0.0.1",), data_dir=self.data_dir, clock=self.clock, metrics=Metrics()
        )
        part = AuthPart(settings, surroundings, host="127.0.0.1")
        await part.start()
        return part

    async def shown(self, part: AuthPart) -> int:
        """Return the serial of the certificate that its port shows to an administrator who calls."""
        admin = self.data_dir.identity(CallerKind.ADMIN)
        serials: list[int] = []

        def verify(name: str, certificate: bytes) -> None:
            verify_host(certificate, name, admin.trust, self.clock.now(), cluster="main")
            serials.append(read_certificate(certificate).serial)

        client = AuthClient(
            Dialer(lambda: admin.client, verify, service_principal(CallerKind.AUTH)).dial,
            lambda: [part.where.removeprefix("auth on ")],
        )
        assert (await client.call(methods.PING, Nothing())).cluster == "main"
        await client.close()
        return serials[0]


@pytest.fixture
def auth(tmp_path: Path) -> Auth:
    """Return an auth role that has not started."""
    return Auth(tmp_path)


@pytest.fixture
async def part(auth: Auth) -> AsyncIterator[AuthPart]:
    """Yield it running."""
    part = await auth.start()
    yield part
    await part.stop()


def serial(identity: StoredIdentity) -> int:
    """Return the serial of its host certificate."""
    return read_certificate(identity.host_certificate.encode()).serial


async def test_a_renewed_certificate_is_shown(auth: Auth, part: AuthPart) -> None:
    """What auth renews for itself, it shows to the next connection, and finds at the next start."""
    first = auth.data_dir.identity(CallerKind.AUTH)
    assert await auth.shown(part) == serial(first)
    await part.member.renew()
    second = auth.data_dir.identity(CallerKind.AUTH)
    assert (second.id, serial(second) != serial(first)) == (first.id, True)
    assert await auth.shown(part) == serial(second)


@pytest.mark.parametrize("role", [CallerKind.AUTH, CallerKind.PROXY, CallerKind.NODE, CallerKind.ADMIN])
async def test_identities_beside_auth(auth: Auth, part: AuthPart, role: CallerKind) -> None:
    """An identity is reused until a third of its life is left, and then replaced under the same id."""
    first = await part.identity(role)
    auth.clock.advance(timedelta(hours=15))
    assert await part.identity(role) == first
    auth.clock.advance(timedelta(hours=1))
    second = await part.identity(role)
    assert second.id == first.id
    assert second.expires > first.expires
    assert auth.data_dir.identity(role) == second


async def test_a_broken_identity_is_replaced(auth: Auth, part: AuthPart, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no identity is no reason to stay down: auth makes another, and says so."""
    (auth.data_dir.path / "proxy.identity").write_text("{")
    assert (await part.identity(CallerKind.PROXY)).role is CallerKind.PROXY
    assert "a new one is made" in caplog.text


async def test_another_name_makes_another_certificate(auth: Auth) -> None:
    """Started under another name it is the same member, certified for the new name."""
    part = await auth.start()
    await part.stop()
    first = auth.data_dir.identity(CallerKind.AUTH)
    part = await auth.start(name="sol")
    await part.stop()
    second = auth.data_dir.identity(CallerKind.AUTH)
    assert second.id == first.id
    assert second.serves({"sol"})
    assert not first.serves({"sol"})


async def test_a_new_storage_makes_new_identities(auth: Auth) -> None:
    """With the storage gone the authorities are new, and identities that the old ones signed are not used."""
    part = await auth.start()
    await part.stop()
    first = auth.data_dir.identity(CallerKind.ADMIN)
    for file in auth.data_dir.path.glob("backend.sqlite*"):
        file.unlink()
    part = await auth.start()
    second = auth.data_dir.identity(CallerKind.ADMIN)
    assert first.authorities != second.authorities
    await auth.shown(part)
    await part.stop()


async def test_a_storage_that_is_away_is_waited_for(
    auth: Auth, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the storage cannot be reached auth tries on, ever more rarely, and says so; then it opens as ever."""
    tries, pauses = 0, list[float]()

    async def away_at_first(options: Options, *, clock: Clock) -> Backend:
        nonlocal tries
        tries += 1
        if tries < 8:
            raise Unavailable("nobody answers")
        return await open_backend(options, clock=clock)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("runtime.cli.start_storage.open_backend", away_at_first)
    settings = resolve(f"teleport: {{data_dir: {auth.data_dir.path}}}")
    storage = await open_storage(settings, auth.clock, Metrics(), pause=pause)
    await storage.backend.close()
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert caplog.text.count("the storage cannot be used yet: nobody answers") == 7
