"""From `tctl users add` to a certificate, as an administrator and a stranger with curl do it, on real processes."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import time
from pathlib import Path

import pyotp

from runtime.pki.keys import generate_key
from tests.servers.teleport import Teleport
from tests.servers.webproxy import PASSWORD, write_pair

DEADLINE_SECONDS = 30.0


def curl(trust: Path, url: str, *arguments: str) -> str:
    """Fetch a URL and return what was answered, whatever its status."""
    command = ["curl", "-sS", "-m", "30", "--cacert", str(trust), *arguments, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_an_invited_person_signs_up_with_curl_and_gets_a_certificate(tmp_path: Path) -> None:
    """The URL that tctl prints opens; password and code make the account; the login is certified; no log tells it."""
    with Teleport(tmp_path, ["auth", "proxy"]).start() as teleport:
        trust = teleport.data_dir / "web.pem"
        added = teleport.tctl("users", "add", "joe", "joe,root")
        url = re.search(r"https://\S+/web/newuser/([0-9a-f]{32})", added.stdout)
        assert url, added
        page = curl(trust, url[0])
        secret = re.search(r'id="secret">([A-Z2-7 ]+)<', page)
        assert secret, page
        totp = pyotp.TOTP(secret[1].replace(" ", ""))
        now = time.time()
        fields = {"password": PASSWORD, "again": PASSWORD, "otp": totp.at(int(now))}
        form = [part for name, value in fields.items() for part in ("--data-urlencode", f"{name}={value}")]
        page = curl(trust, url[0], *form)
        assert f"tsh --proxy=127.0.0.1:{teleport.web_port} --user=joe login" in page
        body = {
            "user": "joe",
            "password": PASSWORD,
            "otp": totp.at(int(now) + 30),
            "public_key": generate_key().public.line,
        }
        login = f"https://{teleport.web_address}/webapi/login"
        reply = json.loads(curl(trust, login, "-H", "Content-Type: application/json", "-d", json.dumps(body)))
        assert reply["certificate"].startswith("ssh-ed25519-cert-v01@openssh.com ")
        log = teleport.log()
        for told in (url[1], PASSWORD, secret[1], *(str(body[name]) for name in ("otp",))):
            assert told not in log
        assert 'POST /webapi/login" 200' in log


def test_sighup_shows_the_new_certificate(tmp_path: Path) -> None:
    """After `kill -HUP` the port shows what is in the files now."""
    cert_file, key_file = write_pair(tmp_path)
    files = {"https_cert_file": str(cert_file), "https_key_file": str(key_file)}
    with Teleport(tmp_path / "teleport", ["auth", "proxy"], config={"proxy_service": files}).start() as teleport:
        address = ("127.0.0.1", teleport.web_port)
        old = ssl.get_server_certificate(address)
        assert old == cert_file.read_text()
        write_pair(tmp_path)
        teleport.signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while ssl.get_server_certificate(address) == old:
            assert time.monotonic() < deadline, teleport.log()
        assert ssl.get_server_certificate(address) == cert_file.read_text()
