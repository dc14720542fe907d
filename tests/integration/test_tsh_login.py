"""`tsh` as processes against a real proxy and a real auth: login, status, agent, logout, and what they load.

What can go wrong is in test_tsh_login_refused.py; what a proxy could lie about in tests/unit/cli/test_tsh_login.py.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest

from runtime.core.callers import CallerKind
from tests.servers.sshd import LOGIN, Sshd
from tests.servers.teleport import Teleport, run
from tests.servers.tsh_person import SECONDS, TSH, Person, Terminal, person_at, sign_up, simple_person, ssh_agent
from tests.servers.webproxy import PASSWORD, WebCluster, web_cluster


@pytest.fixture
async def simple(tmp_path: Path) -> AsyncIterator[Person]:
    """Yield a person who can log in often."""
    async with simple_person(tmp_path) as person:
        yield person


async def test_transcript_of_the_manual(tmp_path: Path) -> None:
    """The manual's login and its ssh-keygen -L, at a terminal: fingerprint, password and code, which are not shown."""
    async with web_cluster(tmp_path) as cluster:
        totp = await sign_up(cluster, "jsmith", "root", "jsmith")
        person = person_at(cluster, tmp_path)
        pin = await person.pin()
        code = totp.at(cluster.clock.now())
        async with Terminal(person, f"--proxy={person.proxy}", "--user=jsmith", "login") as terminal:
            await terminal.expect(f"Its fingerprint is SHA256:{pin}\n")
            await terminal.expect("(yes/no) ")
            terminal.type("maybe\n")
            await terminal.expect("(yes/no) ")
            terminal.type("yes\n")
            await terminal.expect("Enter password for Teleport user jsmith: ")
            assert not terminal.echoes
            terminal.type(f"{PASSWORD}\n")
            await terminal.expect("Enter your OTP token: ")
            assert not terminal.echoes
            terminal.type(f"{code}\n")
            assert await terminal.end() == 0, terminal.shown
            await terminal.expect("Valid until:")
            assert terminal.echoes
            assert PASSWORD not in terminal.shown
            assert code not in terminal.shown
        shown = await person.run("ssh-keygen", "-L", "-f", person.certificate)
        assert re.search(r"Type: ssh-ed25519-cert-v01@openssh\.com user certificate", shown.out)
        assert re.search(r"Public key: ED25519-CERT SHA256:", shown.out)
        assert re.search(r"Signing CA: ED25519 SHA256:", shown.out)
        assert 'Key ID: "jsmith"' in shown.out
        assert re.search(
            r"Principals:\s+jsmith\s+root\s+join:teleport\.internal\s+Critical Options: \(none\)", shown.out
        )
        status = await person.tsh("status")
        assert (status.code, status.err) == (0, "")
        assert re.search(r"^> Proxy: +localhost:\d+\n +User: +jsmith\n +Cluster: +main\n", status.out)
        assert re.search(
            r"Logins: +jsmith, root\n +Roles: +user:jsmith\n +Valid until: .* UTC \(2[23]h.* left\)", status.out
        )
        # The next login asks neither for the fingerprint nor for what the profile knows.
        async with Terminal(person, "login") as terminal:
            await terminal.expect("Enter password for Teleport user jsmith: ")
            assert "fingerprint" not in terminal.shown


def test_from_the_invite_to_the_login(tmp_path: Path) -> None:
    """The manual's way with nothing but processes: teleport start, tctl users add, the sign-up page, tsh login."""
    with Teleport(tmp_path / "teleport", ("auth", "proxy")).start() as teleport:
        added = teleport.tctl("users", "add", "jsmith", "root,jsmith")
        found = re.search(r"https://[^/\s]+(/web/newuser/\S+)", added.stdout)
        assert found, added.stderr
        trusted = ssl.create_default_context(cafile=teleport.data_dir / "web.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", teleport.web_port, context=trusted, timeout=SECONDS)
        connection.request("GET", found[1])
        secret = re.search(r"secret=([A-Z2-7]+)", connection.getresponse().read().decode())
        assert secret
        totp = pyotp.TOTP(secret[1])
        code = totp.at(datetime.now(UTC) - timedelta(seconds=30))
        form = urllib.parse.urlencode({"password": PASSWORD, "again": PASSWORD, "otp": code})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://{teleport.web_address}"}
        connection.request("POST", found[1], form, headers)
        assert connection.getresponse().status == 200
        connection.close()
        login = run(
            "tsh",
            *(f"--proxy=localhost:{teleport.web_port}", "--user=jsmith", "login", "--password-stdin", "--no-agent"),
            stdin=f"{PASSWORD}\n{totp.at(datetime.now(UTC))}\n",
            env={"TELEPORT_HOME": str(tmp_path / "tsh"), "SSL_CERT_FILE": str(teleport.data_dir / "web.pem")},
        )
        assert (login.returncode, login.stderr) == (0, "")
        assert re.search(r"Logins: +jsmith, root\n", login.stdout)
        certificate = tmp_path / "tsh" / "keys" / f"localhost:{teleport.web_port}" / "jsmith.cert"
        shown = subprocess.run(["ssh-keygen", "-L", "-f", certificate], capture_output=True, text=True, check=True)
        assert 'Key ID: "jsmith"' in shown.stdout


async def test_login_status_agent_logout(simple: Person, tmp_path: Path) -> None:
    """One life of a login: the running ssh-agent gets the certificate, the JSON tells it, logging out takes it all."""
    with ssh_agent(tmp_path) as simple.environment:
        login = await simple.log_in("--format=json", "--ttl=90")
        assert (login.code, login.err) == (0, "")
        told = json.loads(login.out)
        assert (told["user"], told["cluster"], told["logins"]) == ("jsmith", "main", sorted({"root", "jsmith", LOGIN}))
        left = datetime.fromisoformat(told["valid_before"]) - datetime.now(UTC)
        assert timedelta(minutes=88) < left <= timedelta(minutes=90)
        listed = await simple.run("ssh-add", "-l")
        assert f"teleport:jsmith@{simple.proxy} (ED25519-CERT)" in listed.out
        assert json.loads((await simple.tsh("status", "--format=json")).out) == [told]
        await simple.log_in()
        assert len((await simple.run("ssh-add", "-l")).out.splitlines()) == 1, "the older login is still in the agent"
        logout = await simple.tsh("logout")
        assert (logout.code, logout.err) == (0, "")
        assert f"removed teleport:jsmith@{simple.proxy} from the ssh-agent\n" in logout.out
        assert f"removed {simple.certificate}\n" in logout.out
        assert (await simple.run("ssh-add", "-l")).out == "The agent has no identities.\n"
    assert not [path for path in simple.home.rglob("*") if path.name.startswith("jsmith")]
    status = await simple.tsh("status")
    assert status.code == 1
    assert "not logged in" in status.out
    assert f"hint: Log in: tsh --proxy={simple.proxy} --user=jsmith login\n" in status.err
    again = await simple.tsh("logout")
    assert (again.code, again.out, again.err) == (0, "", "Nobody was logged in.\n")


async def test_agent_for_a_shell(simple: Person) -> None:
    """`tsh agent` is what the manual says: its output, pasted into a shell, leads OpenSSH to the key."""
    assert (await simple.tsh("agent")).code == 1
    await simple.log_in("--no-agent")
    tsh = shlex.quote(str(TSH))
    script = f'eval "$({tsh} agent)"; ssh-add -l; eval "$({tsh} agent --kill)"; ssh-add -l'
    shell = await simple.run("sh", "-c", script)
    lines = shell.out.splitlines()
    assert re.fullmatch(r"Agent pid \d+", lines[0])
    assert f"teleport:jsmith@{simple.proxy} (ED25519-CERT)" in lines[1]
    assert lines[2] == f"{lines[0]} killed"
    assert shell.code == 2, "the agent still answers"
    started = json.loads((await simple.tsh("agent", "--format=json")).out)
    simple.environment = {name: str(value) for name, value in started.items()}
    try:
        assert f"teleport:jsmith@{simple.proxy}" in (await simple.run("ssh-add", "-l")).out
        killed = await simple.tsh("agent", "--kill", "--format=json")
        assert json.loads(killed.out) == {"killed": started["SSH_AGENT_PID"]}
        assert (await simple.run("ssh-add", "-l")).code == 2
    finally:
        with suppress(ProcessLookupError):
            os.kill(started["SSH_AGENT_PID"], signal.SIGTERM)


async def test_openssh_uses_the_files(simple: Person, tmp_path: Path) -> None:
    """A real sshd that trusts the user authority lets `ssh -i KEY` in, and nobody after logging out.

    ssh finds the certificate by its name, and knows the host by ~/.tsh/known_hosts.
    """
    cluster = simple.cluster
    await simple.log_in("--no-agent")
    node = cluster.identity(CallerKind.NODE)
    users = next(each for each in node.authorities if each.type == "user")
    (folder := tmp_path / "sshd").mkdir()
    key = simple.certificate.with_suffix("")
    with Sshd(
        folder,
        host_key=node.key.get_secret_value(),
        host_certificate=node.host_certificate.encode(),
        trusted_user_ca_keys="".join(f"{line}\n" for line in users.keys),
    ) as sshd:
        ssh = [
            *("ssh", "-F", "none", "-p", str(sshd.port), "-i", str(key), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={simple.home}/.tsh/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=localhost.main", "-o", "BatchMode=yes"),
            *("-o", "IdentityAgent=none", f"{LOGIN}@127.0.0.1", "echo in"),
        ]
        done = await simple.run(*ssh)
        assert (done.code, done.out) == (0, "in\n"), done.err + sshd.log()
        await simple.tsh("logout")
        assert (await simple.run(*ssh)).code == 255


async def test_a_certificate_that_the_machine_trusts(simple: Person) -> None:
    """Where an authority of the machine vouches for the proxy nothing is asked and nothing pinned."""
    simple.environment = {"SSL_CERT_FILE": str(simple.cluster.pem)}
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin"]
    assert (await simple.tsh(*command, stdin=f"{PASSWORD}\n")).code == 0
    simple.environment = {}
    assert (await simple.tsh(*command, stdin=f"{PASSWORD}\n")).code == 1


async def test_logins_at_once(simple: Person) -> None:
    """Of four logins at once each succeeds, and what is left is one whole login: key, public key and certificate."""
    pin = await simple.pin()
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", f"--pin={pin}"]
    done = await asyncio.gather(*(simple.tsh(*command, stdin=f"{PASSWORD}\n") for _ in range(4)))
    assert [each.code for each in done] == [0] * 4, [each.err for each in done]
    key = simple.certificate.with_suffix("")
    private = await simple.run("ssh-keygen", "-y", "-f", key)
    public = key.with_suffix(".pub").read_text()
    assert private.out.split()[:2] == public.split()[:2]
    named = (await simple.run("ssh-keygen", "-l", "-f", key.with_suffix(".pub"))).out.split()[1]
    assert f"Public key: ED25519-CERT {named}\n" in (await simple.run("ssh-keygen", "-L", "-f", simple.certificate)).out


async def test_completion(tmp_path: Path) -> None:
    """A shell that loads the script, and then asks, is told the commands and options that there are."""
    person = Person(WebCluster.__new__(WebCluster), tmp_path)
    script = await person.tsh("completion", "bash")
    assert (await person.run("bash", "-n", stdin=script.out)).code == 0
    for typed, expected in (("tsh lo", {"login", "logout"}), ("tsh login --no", {"--no-agent"})):
        words = typed.split()
        person.environment = {"_TSH_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
        assert {line.partition(",")[2] for line in (await person.tsh()).out.splitlines()} == expected


async def test_a_login_loads_little(simple: Person) -> None:
    """What takes long to import is not imported for a login."""
    code = (
        "import sys\n"
        "from runtime.cli.tsh import main\n"
        "try: main()\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = await simple.run(
        sys.executable, "-c", code, f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin",
        f"--pin={await simple.pin()}", stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert done.code == 0
    loaded = set(done.err.split())
    assert {"ssl", "cryptography"} <= loaded
    assert not loaded & {"pydantic", "asyncssh", "aiohttp", "asyncio", "boto3", "grpc", "kubernetes"}
