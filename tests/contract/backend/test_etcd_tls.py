"""TLS towards a real etcd: whom we accept, who we are, and what etcd lets that user do (manual, Using etcd)."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from runtime.backend.etcd import EtcdBackend
from runtime.backend.options import EtcdOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, InvalidSettings, Unavailable
from tests.contract.backend.etcd_certificates import CertificateAuthority, Issued, self_signed
from tests.contract.backend.harness import PATIENCE_SECONDS, REQUEST_SECONDS, SHORT_REQUEST_SECONDS
from tests.servers.etcd import Etcd, ServerTLS, running
from tests.servers.etcd_access import READ, WRITE, enable_access_control


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Give the authority of servers and clients."""
    return CertificateAuthority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def etcd(authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Give an etcd that demands client certificates."""
    server = authority.issue("server")
    tls = ServerTLS(server.cert, server.key, client_ca=authority.cert)
    with Etcd(tmp_path_factory.mktemp("etcd"), tls=tls) as etcd:
        yield etcd


@pytest.fixture
def options(etcd: Etcd, authority: CertificateAuthority) -> EtcdOptions:
    """Give options that are right."""
    return _options(etcd, authority, authority.issue("teleport"))


def _options(etcd: Etcd, authority: CertificateAuthority, client: Issued) -> EtcdOptions:
    return EtcdOptions(
        peers=(etcd.address,),  # without a scheme https is meant
        tls_ca_file=str(authority.cert),
        tls_cert_file=str(client.cert),
        tls_key_file=str(client.key),
        timeout=REQUEST_SECONDS,
    )


@asynccontextmanager
async def _open(options: EtcdOptions) -> AsyncIterator[EtcdBackend]:
    backend = await EtcdBackend.open(options, clock=SystemClock())
    try:
        yield backend
    finally:
        await backend.close()


async def test_with_a_client_certificate_of_its_authority_etcd_works(options: EtcdOptions) -> None:
    """Requests and watches both go over TLS with the certificate."""
    async with _open(options) as backend, aclosing(backend.watch("resources/")) as watch:
        await anext(watch)
        await backend.put("resources/tls", b"value")
        assert (await backend.get("resources/tls")).value == b"value"
        await anext(watch)


async def test_without_a_client_certificate_etcd_refuses_us(options: EtcdOptions) -> None:
    """The error says which settings are missing."""
    bare = replace(options, tls_cert_file=None, tls_key_file=None, timeout=SHORT_REQUEST_SECONDS)
    with pytest.raises(Unavailable, match=options.peers[0]) as caught:
        await EtcdBackend.open(bare, clock=SystemClock())
    assert "tls_cert_file" in caught.value.hint


async def test_a_client_certificate_of_another_authority_is_refused(options: EtcdOptions, tmp_path: Path) -> None:
    """With the right authority it works (above); here only the client's authority differs."""
    stranger = CertificateAuthority(tmp_path, "stranger").issue("teleport")
    options = replace(options, tls_cert_file=str(stranger.cert), tls_key_file=str(stranger.key))
    with pytest.raises(Unavailable):
        await EtcdBackend.open(replace(options, timeout=SHORT_REQUEST_SECONDS), clock=SystemClock())


async def test_a_server_of_another_authority_is_refused(options: EtcdOptions, tmp_path: Path) -> None:
    """The reason, that its certificate does not verify, is in the message."""
    other = CertificateAuthority(tmp_path, "other")
    mistaken = replace(options, tls_ca_file=str(other.cert), timeout=SHORT_REQUEST_SECONDS)
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await EtcdBackend.open(mistaken, clock=SystemClock())


@pytest.mark.parametrize(
    "name",
    [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("etcd.example"), x509.DNSName("*.example")],
    ids=["address", "name", "wildcard"],
)
async def test_insecure_accepts_a_self_signed_server_and_warns(
    name: x509.GeneralName, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever name is in it; without `insecure: true` the same server is refused."""
    server = self_signed(tmp_path, name)
    etcd = Etcd(tmp_path / "etcd", tls=ServerTLS(server.cert, server.key))
    async with running(etcd):
        options = EtcdOptions(peers=(etcd.url,), timeout=REQUEST_SECONDS)
        with pytest.raises(Unavailable):
            await EtcdBackend.open(replace(options, timeout=SHORT_REQUEST_SECONDS), clock=SystemClock())
        assert not caplog.records
        async with _open(replace(options, insecure=True)) as backend:
            await backend.put("resources/a", b"")
    assert [record for record in caplog.records if "not recommended" in record.getMessage()]


async def test_insecure_still_shows_the_client_certificate(options: EtcdOptions, tmp_path: Path) -> None:
    """An etcd that demands one is as reachable as before; the wrong CA file does not matter any more."""
    other = CertificateAuthority(tmp_path, "other")
    async with _open(replace(options, insecure=True, tls_ca_file=str(other.cert))) as backend:
        await backend.put("resources/a", b"")


async def test_renewed_certificates_are_used_when_it_reconnects(
    options: EtcdOptions, etcd: Etcd, authority: CertificateAuthority, tmp_path: Path
) -> None:
    """The files are read again, without a new process; while they are broken the old ones stay in use."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    stranger = CertificateAuthority(tmp_path, "stranger").issue("teleport")
    renewed = authority.issue("renewed")
    shutil.copy(str(options.tls_cert_file), cert)
    shutil.copy(str(options.tls_key_file), key)
    options = replace(options, tls_cert_file=str(cert), tls_key_file=str(key))
    async with _open(options) as backend, _open(replace(options, timeout=SHORT_REQUEST_SECONDS)) as impatient:
        cert.write_text("half written")
        await asyncio.to_thread(etcd.restart)
        await _writes(backend)
        shutil.copy(stranger.cert, cert)
        shutil.copy(stranger.key, key)
        await asyncio.to_thread(etcd.restart)
        with pytest.raises(Unavailable):
            await impatient.range("resources/")
        shutil.copy(renewed.cert, cert)
        shutil.copy(renewed.key, key)
        await _writes(backend)


async def _writes(backend: EtcdBackend) -> None:
    """Wait until a put succeeds: the first after a restart may find that its connection was lost."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await backend.put("resources/a", b"")
        except Unavailable:
            assert time.monotonic() < deadline
        else:
            return


@pytest.mark.parametrize("key", ["tls_cert_file", "tls_key_file", "tls_ca_file"])
async def test_a_file_that_is_missing_or_no_pem_is_named_with_its_key(
    key: str, options: EtcdOptions, tmp_path: Path
) -> None:
    """InvalidSettings, before anything is sent."""
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("no PEM")
    for file in (missing, text):
        wrong: dict[str, Any] = {key: str(file)}
        with pytest.raises(InvalidSettings, match=rf"{key}: .*{file.name}"):
            await EtcdBackend.open(replace(options, **wrong), clock=SystemClock())


async def test_a_key_of_another_certificate_is_named(options: EtcdOptions, authority: CertificateAuthority) -> None:
    """Both files are right, but do not belong together; and one cannot be given without the other."""
    other = authority.issue("someone")
    with pytest.raises(InvalidSettings, match=r"tls_key_file: .*someone\.key is not the key"):
        await EtcdBackend.open(replace(options, tls_key_file=str(other.key)), clock=SystemClock())
    with pytest.raises(InvalidSettings, match="tls_key_file is not set"):
        await EtcdBackend.open(replace(options, tls_key_file=None), clock=SystemClock())


async def test_a_role_on_one_space_suffices_for_it_and_opens_nothing_else(
    tmp_path: Path, authority: CertificateAuthority
) -> None:
    """What docs/operator.md asks for: all on PREFIX/resources/, reading and watching PREFIX/public/, nothing else."""
    server = authority.issue("server-auth")
    etcd = Etcd(tmp_path / "etcd", tls=ServerTLS(server.cert, server.key, client_ca=authority.cert))
    async with running(etcd):
        rights = {"operator": {"teleport/resources/": WRITE, "teleport/public/": READ}}
        await asyncio.to_thread(enable_access_control, etcd, authority, rights)
        async with _open(_options(etcd, authority, authority.issue("operator"))) as backend:
            async with aclosing(backend.watch("resources/")) as watch:
                await anext(watch)
                item = await backend.create("resources/a", b"1", expires=SystemClock().now() + timedelta(hours=1))
                item = await backend.compare_and_swap("resources/a", b"2", revision=item.revision)
                assert (await backend.range("resources/")).items == (item,)
                await backend.delete("resources/a")
                for _ in range(3):
                    await anext(watch)
            async with aclosing(backend.watch("public/")) as watch:
                assert await anext(watch) == await backend.range("public/")
            later = SystemClock().now() + timedelta(hours=1)
            for denied in (
                backend.put("public/cluster", b""),
                backend.create("public/cluster", b""),
                backend.delete("public/cluster"),
                backend.get("authority/user"),
                backend.put("authority/user", b""),
                backend.create("authority/user", b"", expires=later),
                backend.delete("authority/user"),
                backend.range("authority/"),
                anext(backend.watch("authority/")),
                anext(backend.watch("authority/", after=1)),
            ):
                with pytest.raises(AccessDenied, match="permission denied") as caught:
                    await denied
                assert "role" in caught.value.hint
        async with _open(_options(etcd, authority, authority.issue("nobody"))) as backend:
            with pytest.raises(AccessDenied):
                await backend.get("resources/a")
