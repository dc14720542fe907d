"""A cluster in this process: auth on a real SSH port over a store in memory, and the proxy's HTTPS before it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pyotp
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.people_messages import SignupQuery, SignupRequest, UserRequest
from runtime.auth.server import AuthOptions
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock, SystemClock
from runtime.pki.keys import generate_key
from runtime.proxy.cluster import ClusterView
from runtime.proxy.self_signed import make_self_signed
from runtime.proxy.service import ProxyOptions, ProxyService
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.values import Address
from tests.servers.auth_port import OPTIONS, AuthPort

PASSWORD = "correct horse battery"


class WebCluster:
    """Auth and proxy of a cluster, `main` by default. `base` is the proxy's URL, `pem` its self-signed certificate."""

    def __init__(self, folder: Path, auth: AuthOptions, proxy: ProxyOptions, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.options = proxy
        self._auth = AuthPort(folder, auth, clock=clock)
        self.log, self.backend = self._auth.log, self._auth.backend
        self.base = ""

    @property
    def pem(self) -> Path:
        """The file with the certificate that the proxy made, and its key."""
        return self.options.data_dir / "web.pem"

    @property
    def auth_address(self) -> str:
        """Where auth listens."""
        return self._auth.address

    async def start(self) -> None:
        """Start auth, and the proxy with an identity from it."""
        await self._auth.listen()
        self.auth = self._auth.service
        self.admin = self.client(CallerKind.ADMIN)
        await self._start_proxy()
        self.base = f"https://127.0.0.1:{self.port}"

    async def _start_proxy(self) -> None:
        auth = self.client(CallerKind.PROXY)
        following = Following(auth, DataDir(self.folder), "people.json")
        self._following = asyncio.create_task(following.run())
        await following.ready(10)
        identity = self.identity(CallerKind.PROXY)
        self.view = ClusterView(
            self.auth.issuer.cluster, lambda: identity.trust, following, Directory(auth).nodes, self.log
        )
        self.proxy = ProxyService(self.options, auth=auth, view=self.view, clock=self.clock, identity=lambda: identity)
        _, self.port = await self.proxy.start()

    def identity(self, role: CallerKind) -> StoredIdentity:
        """Return an identity that auth makes for a role beside it."""
        return self._auth.identity(role)

    def client(self, role: CallerKind) -> AuthClient:
        """Return a client of auth with an identity of that role."""
        return self._auth.client(self.identity(role))

    async def stop(self) -> None:
        """Stop everything."""
        await self.proxy.stop()
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        await self._auth.end()

    def events(self) -> str:
        """Return the event log so far."""
        return "".join(path.read_text() for path in sorted((self.folder / "log").iterdir()))

    async def invite(self, name: str = "joe", *logins: str) -> str:
        """Invite a user, and return the path of the sign-up link."""
        invite = await self.admin.call(methods.USERS_CREATE, UserRequest(name=name, logins=logins or (name,)))
        return f"/web/newuser/{invite.token}"

    async def sign_up(self, name: str = "joe") -> pyotp.TOTP:
        """Make a user with PASSWORD, and return its one-time passwords. The code of a minute ago is used up."""
        path = await self.invite(name)
        proxy = self.client(CallerKind.PROXY)
        token = path.rsplit("/", 1)[1]
        form = await proxy.call(
            methods.SIGNUP_SHOW, SignupQuery.model_validate({"token": token, "address": "192.0.2.9"})
        )
        totp = pyotp.parse_uri(form.otp_uri)
        assert isinstance(totp, pyotp.TOTP)
        code = totp.at(self.clock.now() - timedelta(seconds=30))
        await proxy.call(
            methods.SIGNUP_COMPLETE,
            SignupRequest.model_validate({"token": token, "password": PASSWORD, "otp": code, "address": "192.0.2.9"}),
        )
        return totp

    def trust(self) -> ssl.SSLContext:
        """Return what a client verifies the proxy with."""
        return ssl.create_default_context(cafile=self.pem)

    @asynccontextmanager
    async def http(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield an HTTP client that knows the proxy's certificate."""
        connector = aiohttp.TCPConnector(ssl=self.trust())
        async with aiohttp.ClientSession(self.base, connector=connector) as session:
            yield session


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, passphrase: bytes = b"") -> bytes:
    """Return a private key as PEM."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for localhost and its key, as an administrator would, and return their files."""
    certificate, key = make_self_signed(["localhost", "127.0.0.1"], datetime.now(UTC))
    cert_file, key_file = folder / "teleport.crt", folder / "teleport.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key_pem(key))
    return cert_file, key_file


def code(cluster: WebCluster, totp: pyotp.TOTP, *, steps: int = 0) -> str:
    """Return the one-time password of now, or of some steps of 30 s later."""
    return totp.at(cluster.clock.now() + timedelta(seconds=30 * steps))


def login(otp: str, /, **changes: object) -> dict[str, object]:
    """Return the body of a login of joe."""
    body = {"user": "joe", "password": PASSWORD, "otp": otp, "public_key": generate_key().public.line, "ttl": None}
    return {**body, **changes}


async def fault(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Return the error that a JSON answer tells."""
    assert response.content_type == "application/json"
    document: dict[str, dict[str, str]] = await response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"kind", "message", "hint"}
    return document["error"]


@asynccontextmanager
async def web_cluster(
    folder: Path,
    *,
    auth: AuthOptions | None = None,
    proxy: ProxyOptions | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[WebCluster]:
    """Yield a running cluster with its files in `folder`; the address and data_dir of the options are set here."""
    options = replace(
        proxy or ProxyOptions(web_address=Address("127.0.0.1", 0), data_dir=folder, names=("proxy.main.example",)),
        web_address=Address("127.0.0.1", 0),
        data_dir=folder / "data",
    )
    cluster = WebCluster(
        folder,
        auth or OPTIONS,
        options,
        clock or SystemClock(),
    )
    await cluster.start()
    try:
        yield cluster
    finally:
        async with asyncio.timeout(30):
            await cluster.stop()
