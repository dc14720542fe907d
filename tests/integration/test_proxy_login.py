"""The proxy's login API in front of a real auth service, and bad input to it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runtime.api.people_messages import LoginReply
from runtime.proxy.service import ProxyOptions
from runtime.service.values import Address
from tests.servers.programs import run
from tests.servers.webproxy import PASSWORD, WebCluster, code, fault, login, web_cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running."""
    async with web_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: WebCluster) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client that trusts the proxy's own certificate."""
    async with cluster.http() as session:
        yield session


async def test_curl_pings_and_checks_the_certificate(cluster: WebCluster) -> None:
    """With the proxy's certificate curl reads who answers; without it, it goes no further."""
    status, output = await run("curl", "-sS", "--cacert", cluster.pem, f"{cluster.base}/webapi/ping")
    assert status == 0, output
    pong = json.loads(output)
    assert pong.pop("time").endswith("Z")
    assert pong == {"cluster": "main", "version": pong["version"], "second_factor": "otp", "ssh_port": 3023}
    status, output = await run("curl", "-sS", f"{cluster.base}/webapi/ping")
    assert (status, "self-signed" in output) == (60, True)


async def test_a_ping_tells_where_ssh_is(tmp_path: Path) -> None:
    """Behind a load balancer of its own SSH is on another host and port, which tsh learns here."""
    options = ProxyOptions(
        web_address=Address("127.0.0.1", 0),
        data_dir=tmp_path,
        names=("proxy.main.example",),
        ssh_port=2222,
        ssh_host="ssh.main.example",
    )
    async with (
        web_cluster(tmp_path, proxy=options) as cluster,
        cluster.http() as session,
        session.get("/webapi/ping") as answer,
    ):
        pong = await answer.json()
    assert (pong["ssh_host"], pong["ssh_port"]) == ("ssh.main.example", 2222)


async def test_a_login_gives_a_certificate_that_openssh_reads(
    cluster: WebCluster, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Password, code and key in; a certificate of an hour and the cluster's authorities out. The code works once."""
    totp = await cluster.sign_up()
    body = login(code(cluster, totp), ttl=3600)
    async with http.post("/webapi/login", json=body) as response:
        assert response.status == 200, await response.text()
        reply = LoginReply.model_validate(await response.json())
    assert (reply.user, reply.cluster) == ("joe", "main")
    assert {authority.type for authority in reply.authorities} == {"user", "host"}
    left = reply.expires - cluster.clock.now()
    assert timedelta(minutes=58) < left <= timedelta(hours=1)
    certificate = tmp_path / "joe-cert.pub"
    certificate.write_text(reply.certificate)
    status, listing = await run("ssh-keygen", "-L", "-f", certificate)
    assert status == 0
    assert 'Key ID: "joe"' in listing
    async with http.post("/webapi/login", json=body) as response:
        assert response.status == 403
        assert (await fault(response))["kind"] == "AccessDenied"


async def test_every_wrong_login_gets_the_same_answer(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """An unknown user, a wrong password and a wrong code are not told apart."""
    totp = await cluster.sign_up()
    answers = []
    for changes in ({"user": "nobody"}, {"password": "wrong horse"}, {"otp": "000000"}, {"otp": None}):
        async with http.post("/webapi/login", json=login(code(cluster, totp), **changes)) as response:
            answers.append((response.status, await fault(response)))
    assert answers[0][0] == 403
    assert answers[0][1]["message"] == "wrong user name, password or one-time password"
    assert all(answer == answers[0] for answer in answers)


async def test_five_wrong_logins_lock_the_right_one_out(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """After five failures the right answer is refused too, and the answer says until when."""
    totp = await cluster.sign_up()
    for _ in range(5):
        async with http.post("/webapi/login", json=login("000000")) as response:
            assert response.status == 403
    async with http.post("/webapi/login", json=login(code(cluster, totp))) as response:
        assert response.status == 403
        assert re.match(r"locked after 5 failed attempts until \d\d:\d\d UTC", (await fault(response))["message"])
    assert '"event":"user.locked"' in cluster.events()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user": ""}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"user": "joe\u202e"}, "user"),
        ({"user": ["joe"]}, "user"),
        ({"user": "j" * 2000}, "user"),
        ({"password": None}, "password"),
        ({"password": "s3cret" * 1000}, "password"),
        ({"public_key": "ssh-rsa nonsense"}, "key"),
        ({"public_key": 7}, "public_key"),
        ({"ttl": 59}, "ttl"),
        ({"ttl": 30 * 3600 + 1}, "ttl"),
        ({"ttl": "an hour"}, "ttl"),
        ({"ttl": float("inf")}, "ttl"),
    ],
)
async def test_a_login_that_cannot_be_right_is_told_why(
    cluster: WebCluster, http: aiohttp.ClientSession, changes: dict[str, Any], says: str
) -> None:
    """Bad input is 400 and names the field, not what was typed; it uses up neither the code nor an attempt."""
    totp = await cluster.sign_up()
    body = login(code(cluster, totp))
    async with http.post("/webapi/login", json={**body, **changes}) as response:
        assert response.status == 400
        error = await fault(response)
    assert error["kind"] == "InvalidInput"
    assert says in error["message"]
    assert "s3cret" not in json.dumps(error)
    async with http.post("/webapi/login", json=body) as response:
        assert response.status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"joe"', b'{"user": "\\ud800"}', b"\xff\xfe", b"[" * 5000])
async def test_a_body_that_is_not_json_is_told_so(http: aiohttp.ClientSession, body: bytes) -> None:
    """Whatever arrives in place of a JSON object is 400."""
    async with http.post("/webapi/login", data=body, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 400
        assert (await fault(response))["kind"] == "InvalidInput"


async def test_a_login_is_json_by_post_only(http: aiohttp.ClientSession) -> None:
    """Another type is 415, another method 405 with Allow, another path 404; all in JSON."""
    async with http.post("/webapi/login", data={"user": "joe"}) as response:
        assert response.status == 415
        assert "application/json" in (await fault(response))["message"]
    async with http.get("/webapi/login") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        await fault(response)
    async with http.delete("/webapi/ping") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    for path in ("/webapi", "/webapi/", "/webapi/nothing", "/webapi/ping/x"):
        async with http.get(path) as response:
            assert response.status == 404
            assert (await fault(response))["kind"] == "NotFound"


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_mebibyte_is_the_most(http: aiohttp.ClientSession, declared: bool) -> None:
    """A body of 1 MiB is read (and is no JSON); one byte more is 413, whether its length is declared or not."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b" " * 65536
        yield b" " * (size % 65536)

    for size, status in ((1024**2, 400), (1024**2 + 1, 413)):
        data = io.BytesIO(b" " * size) if declared else chunks(size)
        async with http.post("/webapi/login", data=data, headers={"Content-Type": "application/json"}) as response:
            assert response.status == status
            await fault(response)


async def test_a_compressed_body_is_not_opened(http: aiohttp.ClientSession) -> None:
    """A few kilobytes cannot become gigabytes: what is compressed is not JSON here."""
    async with http.post("/webapi/login", json={"user": "x" * 9000}, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 400


async def test_auth_away_is_told_with_a_time_to_try_again(cluster: WebCluster, http: aiohttp.ClientSession) -> None:
    """With auth away the API says 503 and Retry-After in JSON, the pages on a page; when the page shows, so does it."""
    path = await cluster.invite()
    await cluster.auth.stop()
    async with http.get("/webapi/ping") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert (await fault(response))["kind"] == "Unavailable"
    async with http.post("/webapi/login", json=login("123456")) as response:
        assert response.status == 503
    fields = {"password": PASSWORD, "again": PASSWORD, "otp": "123456"}
    for answer in (http.get("/"), http.get(path), http.post(path, data=fields)):
        async with answer as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert response.content_type == "text/html"
            assert path not in await response.text()
