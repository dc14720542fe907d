"""TLS of the proxy's HTTPS port: what is spoken, the self-signed certificate, configured ones, reload and drain."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.core.clock import ManualClock, SystemClock
from runtime.core.errors import InvalidSettings, Unavailable
from runtime.proxy.self_signed import LIFE, RENEW_BEFORE
from runtime.proxy.service import ProxyOptions, ProxyService
from runtime.service.values import Address
from tests.servers.processes import free_port, listens
from tests.servers.programs import run
from tests.servers.webproxy import WebCluster, key_pem, web_cluster, write_pair

PING = b"GET /webapi/ping HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running."""
    async with web_cluster(tmp_path) as cluster:
        yield cluster


async def shown(port: int) -> bytes:
    """Return the certificate that the port shows, as DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return certificate


def der(cert_file: Path) -> bytes:
    """Return the certificate in a PEM file as DER."""
    return x509.load_pem_x509_certificate(cert_file.read_bytes()).public_bytes(serialization.Encoding.DER)


# --- what is spoken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "spoken"),
    [
        (["-tls1_3"], "TLSv1.3"),
        (["-tls1_2"], "TLSv1.2"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "TLSv1.2"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"], None),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"], None),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], None),
        (["-tls1", "-cipher", "ALL:@SECLEVEL=0"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
async def test_only_current_tls_is_spoken(cluster: WebCluster, offered: list[str], spoken: str | None) -> None:
    """TLS 1.3, and 1.2 with forward secrecy and AEAD; neither CBC, nor plain RSA, nor anything older."""
    status, output = await run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{cluster.port}", "-CAfile", cluster.pem, *offered
    )
    if spoken is None:
        assert status != 0
        assert "Cipher is (NONE)" in output
    else:
        assert status == 0, output
        assert f"{spoken}, Cipher is " in output
        assert "Verify return code: 0 (ok)" in output


async def test_plain_http_is_cut(cluster: WebCluster) -> None:
    """Who speaks HTTP to the HTTPS port gets nothing in clear, and the port goes on."""
    status, _ = await run("curl", "-sS", "-m", "10", f"http://127.0.0.1:{cluster.port}/")
    assert status != 0
    async with cluster.http() as http, http.get("/webapi/ping") as response:
        assert response.status == 200


# --- the proxy's own certificate -------------------------------------------------------------------------------------


async def test_the_own_certificate_is_strict_private_and_announced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is for the proxy's names and localhost, verifies strictly, its key is 0600, its fingerprint is openssl's."""
    async with web_cluster(tmp_path) as cluster:
        assert cluster.pem.stat().st_mode & 0o777 == 0o600
        assert cluster.pem.parent.stat().st_mode & 0o777 == 0o700
        context = cluster.trust()
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        for name in ("proxy.main.example", "localhost", "127.0.0.1"):
            _, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=context, server_hostname=name)
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection("127.0.0.1", cluster.port, ssl=context, server_hostname="evil.example")
        status, output = await run("openssl", "x509", "-in", cluster.pem, "-noout", "-fingerprint", "-sha256")
        assert status == 0
        assert "SHA256:" + output.strip().partition("=")[2] in caplog.text
        assert "PRIVATE KEY" not in caplog.text


async def test_the_own_certificate_is_kept_until_it_ends_soon(tmp_path: Path, cluster: WebCluster) -> None:
    """A restart shows the same one, which people have pinned; 30 days before it ends, or another name: a new one."""
    options = replace(cluster.options, data_dir=tmp_path / "kept")
    clock = ManualClock(SystemClock().now())
    certificates = []
    for name, later in (
        ("one.example", timedelta()),
        ("one.example", LIFE - RENEW_BEFORE - timedelta(seconds=1)),
        ("one.example", timedelta(seconds=1)),
        ("two.example", timedelta()),
        ("two.example", timedelta()),
    ):
        clock.advance(later)
        service = ProxyService(replace(options, names=(name,)), auth=cluster.admin, view=cluster.view, clock=clock)
        _, port = await service.start()
        certificates.append(await shown(port))
        await service.stop()
    first, second, third, fourth, fifth = certificates
    assert first == second
    assert second != third
    assert third != fourth
    assert fourth == fifth


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_damaged_own_certificate_is_replaced(
    tmp_path: Path, cluster: WebCluster, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be used does not keep the proxy from starting; the log says that there is another."""
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "web.pem").write_bytes(content)
    service = ProxyService(
        replace(cluster.options, data_dir=tmp_path / "damaged"),
        auth=cluster.admin,
        view=cluster.view,
        clock=SystemClock(),
    )
    caplog.clear()
    _, port = await service.start()
    assert await shown(port) == der(tmp_path / "damaged" / "web.pem")
    assert "another takes its place" in caplog.text
    assert "SHA256:" in caplog.text
    await service.stop()


# --- configured certificates -----------------------------------------------------------------------------------------


async def test_a_configured_certificate_is_shown_with_hsts(tmp_path: Path) -> None:
    """With https_cert_file the port shows that one, makes none of its own, and tells browsers to insist on HTTPS."""
    cert_file, key_file = write_pair(tmp_path)
    proxy = options(tmp_path, cert_file, key_file)
    async with web_cluster(tmp_path, proxy=proxy) as cluster:
        assert await shown(cluster.port) == der(cert_file)
        assert not cluster.pem.exists()
        status, output = await run("curl", "-sS", "-i", "--cacert", cert_file, f"{cluster.base}/")
        assert status == 0
        assert "Strict-Transport-Security: max-age=31536000" in output


def options(folder: Path, cert_file: Path, key_file: Path, port: int = 0) -> ProxyOptions:
    """Return options with a configured certificate."""
    return ProxyOptions(
        web_address=Address("127.0.0.1", port),
        data_dir=folder / "data",
        names=("localhost",),
        https_cert_file=cert_file,
        https_key_file=key_file,
    )


def _no_file(cert_file: Path, key_file: Path) -> None:
    key_file.unlink()


def _folder(cert_file: Path, key_file: Path) -> None:
    cert_file.unlink()
    cert_file.mkdir()


def _rubbish_certificate(cert_file: Path, key_file: Path) -> None:
    cert_file.write_text("rubbish")


def _rubbish_key(cert_file: Path, key_file: Path) -> None:
    key_file.write_bytes(cert_file.read_bytes())


def _passphrase(cert_file: Path, key_file: Path) -> None:
    key_file.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))


def _other_key(cert_file: Path, key_file: Path) -> None:
    key_file.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))


Spoil = Callable[[Path, Path], None]
SPOILED: list[tuple[Spoil, str]] = [
    (_no_file, r"https_key_file: .*teleport\.key cannot be read: No such file"),
    (_folder, r"https_cert_file: .*teleport\.crt cannot be read: Is a directory"),
    (_rubbish_certificate, r"https_cert_file: .*teleport\.crt holds no certificate in PEM"),
    (_rubbish_key, r"https_key_file: .*teleport\.key holds no private key in PEM"),
    (_passphrase, r"https_key_file: .*teleport\.key has a passphrase"),
    (_other_key, r"https_key_file: the key in .*teleport\.key is not that of .*teleport\.crt"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILED, ids=lambda value: getattr(value, "__name__", ""))
async def test_files_that_cannot_be_used_start_nothing(
    tmp_path: Path, cluster: WebCluster, spoil: Spoil, says: str
) -> None:
    """The error names setting and file, tells what to do, and nobody listens."""
    cert_file, key_file = write_pair(tmp_path)
    spoil(cert_file, key_file)
    port = free_port()
    service = ProxyService(
        options(tmp_path, cert_file, key_file, port), auth=cluster.admin, view=cluster.view, clock=SystemClock()
    )
    with pytest.raises(InvalidSettings, match=says) as caught:
        await service.start()
    assert caught.value.hint
    assert not listens(port)
    await service.stop()


async def test_an_address_that_is_taken_is_told(cluster: WebCluster) -> None:
    """Two proxies cannot have one port; the second says which."""
    second = replace(cluster.options, web_address=Address("127.0.0.1", cluster.port))
    service = ProxyService(second, auth=cluster.admin, view=cluster.view, clock=SystemClock())
    with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1 port {cluster.port}: Address already in use"):
        await service.start()
    await service.stop()


async def test_a_reload_loses_no_connection(tmp_path: Path) -> None:
    """The new certificate is for new connections; one that is in the middle of a request goes on and is answered."""
    cert_file, key_file = write_pair(tmp_path)
    async with web_cluster(tmp_path, proxy=options(tmp_path, cert_file, key_file)) as cluster:
        old = der(cert_file)
        trust = ssl.create_default_context(cafile=cert_file)
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=trust)
        writer.write(PING[:20])
        await writer.drain()
        write_pair(tmp_path)
        assert await shown(cluster.port) == old, "until it is told to, it goes on with what it has"
        await cluster.proxy.reload()
        assert await shown(cluster.port) == der(cert_file) != old
        writer.write(PING[20:])
        async with asyncio.timeout(10):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("spoil", "says"), SPOILED, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_reload_of_broken_files_keeps_the_old_certificate(
    tmp_path: Path, spoil: Spoil, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be used is not used: the log says why, and the port goes on as it was."""
    cert_file, key_file = write_pair(tmp_path)
    async with web_cluster(tmp_path, proxy=options(tmp_path, cert_file, key_file)) as cluster:
        old = await shown(cluster.port)
        spoil(cert_file, key_file)
        await cluster.proxy.reload()
        assert await shown(cluster.port) == old
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("HTTPS goes on with the certificate that it has: ")


@pytest.mark.parametrize(
    ("later", "says"),
    [
        (timedelta(hours=-2), "is not valid before"),
        (timedelta(), None),
        (LIFE - timedelta(days=6), "is not valid after"),
        (LIFE + timedelta(days=1), "is not valid after"),
    ],
    ids=["early", "in time", "ends soon", "late"],
)
async def test_a_configured_certificate_out_of_its_time_is_told(
    tmp_path: Path, cluster: WebCluster, later: timedelta, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is served all the same, for the clock may be wrong; the log names it, and when it ends or begins."""
    cert_file, key_file = write_pair(tmp_path)
    clock = ManualClock(SystemClock().now() + later)
    service = ProxyService(options(tmp_path, cert_file, key_file), auth=cluster.admin, view=cluster.view, clock=clock)
    _, port = await service.start()
    assert await shown(port) == der(cert_file)
    await service.stop()
    if says is None:
        assert str(cert_file) not in caplog.text
    else:
        assert re.search(rf"https_cert_file: {cert_file} {says} \d{{4}}-\d\d-\d\d \d\d:\d\d UTC", caplog.text)


@pytest.mark.parametrize("kind", ["rsa", "ec"])
async def test_keys_of_both_kinds_serve(tmp_path: Path, kind: str) -> None:
    """RSA certificates of companies' own authorities work as well as ECDSA ones."""
    cert_file, key_file = write_pair(tmp_path)
    if kind == "rsa":
        command: list[str | Path] = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key_file,
            "-out",
            cert_file,
        ]
        status, output = await run(*command, "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1")
        assert status == 0, output
    async with web_cluster(tmp_path, proxy=options(tmp_path, cert_file, key_file)) as cluster:
        for version in ("1.2", "1.3"):
            url = f"{cluster.base}/webapi/ping"
            status, output = await run("curl", "-sS", "--tls-max", version, "--cacert", cert_file, url)
            assert status == 0, output


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_stop_finishes_what_is_being_answered(tmp_path: Path) -> None:
    """A request that has begun is answered after `stop`; an idle connection ends; nobody new gets in."""
    async with web_cluster(tmp_path) as cluster:
        trust = cluster.trust()
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=trust)
        writer.write(b"POST /webapi/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"  # it has reached its handler
            idle, unused = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=trust)
            stopping = asyncio.create_task(cluster.proxy.stop())
            while await asyncio.to_thread(listens, cluster.port):
                pass
            assert not stopping.done()
            writer.write(b"{}")
            await reader.readline()
            assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
            await stopping
            assert await idle.read() == b""
        unused.close()
        writer.close()


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path, cluster: WebCluster) -> None:
    """A client that never finishes its request is cut when the time to drain is over; a half handshake at once."""
    limits = replace(cluster.options.limits, drain_seconds=0.3)
    async with web_cluster(tmp_path / "short", proxy=replace(cluster.options, limits=limits)) as short:
        reader, writer = await asyncio.open_connection("127.0.0.1", short.port, ssl=short.trust())
        writer.write(b"POST /webapi/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        _, half = await asyncio.open_connection("127.0.0.1", short.port)
        async with asyncio.timeout(5):
            await reader.readline()
            await short.proxy.stop()
        writer.close()
        half.close()


async def test_out_of_file_descriptors_it_waits_and_goes_on(
    cluster: WebCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """When the process can open no more files, new connections wait, those that are open work, and it recovers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.trust())
    async with cluster.http() as http, http.get("/webapi/ping") as response:
        assert response.status == 200  # the proxy has its connection to auth now
    held = []
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-m", "30", "--cacert", cluster.pem, "--retry", "3", f"{cluster.base}/webapi/ping",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    try:
        async with asyncio.timeout(20):
            while "cannot accept connections" not in caplog.text:  # noqa: ASYNC110 - a log has no event to wait for
                await asyncio.sleep(0.01)
        writer.write(PING)
        async with asyncio.timeout(10):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    finally:
        for descriptor in held:
            os.close(descriptor)
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert b'"cluster": "main"' in output
    writer.close()
