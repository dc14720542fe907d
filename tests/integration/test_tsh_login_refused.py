"""`tsh login` and what goes wrong with it: answers, proxies, clocks, terminals and command lines."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.pki.keys import generate_key
from tests.servers.processes import free_port
from tests.servers.tsh_person import Person, Terminal, person_at, sign_up, simple_person
from tests.servers.webproxy import PASSWORD, WebCluster, web_cluster
from tests.unit.cli.tsh_proxy import Cluster


@pytest.fixture
async def simple(tmp_path: Path) -> AsyncIterator[Person]:
    """Yield a person who can log in often."""
    async with simple_person(tmp_path) as person:
        yield person


async def test_wrong_answers(tmp_path: Path) -> None:
    """A wrong password, a wrong code, a code used twice and a locked user each end with 1, auth's words and a hint."""
    async with web_cluster(tmp_path) as cluster:
        totp = await sign_up(cluster, "jsmith")
        person = person_at(cluster, tmp_path)
        code = totp.at(cluster.clock.now() + timedelta(seconds=30))
        for wrong in (
            await person.log_in(code=code, password="not it"),
            await person.log_in(code="000000" if code != "000000" else "000001"),
        ):
            assert (wrong.code, wrong.out) == (1, "")
            assert wrong.err.startswith("error: wrong user name, password or one-time password\nhint: ")
        assert not (person.home / ".tsh" / "keys").exists()
        assert (await person.log_in(code=code)).code == 0
        key = person.certificate.read_text()
        reused = await person.log_in(code=code)
        assert (reused.code, reused.err.splitlines()[0]) == (1, "error: wrong user name, password or one-time password")
        assert person.certificate.read_text() == key, "a login that failed has changed the one before"
        for _ in range(5):
            locked = await person.log_in(code="000000")
        assert locked.code == 1
        assert locked.err.startswith("error: locked after ")
        assert "hint: Wait" in locked.err
        person.user = "nobody"
        assert (await person.log_in()).code == 1


@pytest.mark.parametrize("prompt", ["(yes/no) ", "password", "OTP token"])
async def test_ctrl_c(tmp_path: Path, prompt: str) -> None:
    """Ctrl-C at any prompt ends with 130, leaves no file, and gives the terminal back as it was."""
    async with web_cluster(tmp_path) as cluster:
        person = person_at(cluster, tmp_path)
        async with Terminal(person, f"--proxy={person.proxy}", "--user=jsmith", "login") as terminal:
            for expected, answer in (("(yes/no) ", "yes\n"), ("password", "secret\n"), ("OTP token", "")):
                await terminal.expect(expected)
                if expected == prompt:
                    terminal.type("\x03")
                    break
                terminal.type(answer)
            assert await terminal.end() == 130
            assert terminal.echoes
            assert "Traceback" not in terminal.shown
        assert list(person.home.iterdir()) == []


async def test_without_a_terminal(simple: Person) -> None:
    """In a script an unknown certificate is no question: exit 1, its fingerprint, and the option that trusts it."""
    refused = await simple.tsh(
        f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert (refused.code, refused.out) == (1, "")
    pin = await simple.pin()
    assert f"tsh login --proxy={simple.proxy} --pin=SHA256:{pin}" in refused.err
    asked = await simple.tsh(f"--proxy={simple.proxy}", "--user=jsmith", "login", f"--pin={pin}")
    assert asked.code == 1
    assert asked.err.startswith("error: there is no terminal to ask for the password\nhint: ")
    assert "--password-stdin" in asked.err
    assert not (simple.home / ".tsh").exists()


async def test_a_proxy_that_shows_another_certificate(simple: Person) -> None:
    """Once pinned, a changed certificate is refused with both fingerprints; --pin takes the new one."""
    assert (await simple.log_in()).code == 0
    old = await simple.pin()
    simple.cluster.pem.unlink()
    await simple.cluster.proxy.reload()
    new = await simple.pin()
    refused = await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert refused.code == 1
    assert f"pinned: SHA256:{old}\nshown:  SHA256:{new}\n" in refused.err
    assert "hint: Somebody may be between you and the proxy." in refused.err
    insecure = await simple.tsh("login", "--insecure", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert insecure.code == 0
    assert insecure.err.startswith("warning: --insecure")
    assert new in insecure.err
    assert (await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")).code == 1
    assert (await simple.log_in()).code == 0
    assert (await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")).code == 0


async def test_nobody_at_the_address(simple: Person) -> None:
    """A proxy that is away, and one whose auth is away, end with 1 and say what to look at."""
    away = await simple.tsh(f"--proxy=localhost:{free_port()}", "login")
    assert (away.code, away.out) == (1, "")
    assert "cannot be reached: nobody listens there\nhint: " in away.err
    await simple.cluster.auth.stop()
    without_auth = await simple.log_in()
    assert without_auth.code == 1
    assert without_auth.err.startswith("error: ")
    assert "Traceback" not in without_auth.err


async def test_a_clock_hours_off(simple: Person) -> None:
    """By a clock that is hours behind nothing would be valid: refused before anybody is asked, with the right time.

    Some hours ahead there is a warning; and what was valid then, expires when the clock passes its end.
    """
    behind = await simple.tsh_with_clock(timedelta(hours=-3), "login", f"--proxy={simple.proxy}", "--insecure")
    assert behind.code == 1
    assert re.search(
        r"error: this machine's clock is (3h|2h59m)\S* behind the cluster's: a certificate would", behind.err
    )
    assert f"there it is {datetime.now(UTC):%Y-%m-%d}" in behind.err
    assert "timedatectl" in behind.err
    assert '"event":"auth"' not in simple.cluster.events()
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", "--insecure", "--ttl=180"]
    ahead = await simple.tsh_with_clock(timedelta(hours=2), *command, stdin=f"{PASSWORD}\n")
    assert ahead.code == 0
    assert re.search(r"warning: this machine's clock is (2h|1h59m)\S* ahead of the cluster's", ahead.err)
    assert (await simple.tsh("status")).code == 0
    expired = await simple.tsh_with_clock(timedelta(hours=4), "status")
    assert expired.code == 1
    assert re.search(r"\(EXPIRED 1h\S* ago\)", expired.out) or "(EXPIRED 59m" in expired.out


async def test_an_expired_certificate(simple: Person) -> None:
    """An expired login is marked by `tsh status`, which ends with 1; `tsh agent` refuses it; one can log out of it."""
    then = datetime.now(UTC) - timedelta(hours=2)
    key, cluster = generate_key(), Cluster(now=lambda: then)
    said = cluster.login({"user": "jsmith", "public_key": key.public.line, "ttl": 60})
    home = Home(simple.home / ".tsh")
    home.store(
        Profile(Address.parse(simple.proxy), "jsmith", cluster="main"),
        Keys(key.to_openssh(), key.public.line, said["certificate"]),
    )
    status = await simple.tsh("status")
    assert status.code == 1
    assert re.search(r"Valid until: .* UTC \(EXPIRED 1h59m\S* ago\)", status.out)
    assert status.err.startswith("error: the certificate expired at ")
    assert "hint: Log in: tsh" in status.err
    assert json.loads((await simple.tsh("status", "--format=json")).out)[0]["valid"] is False
    agent = await simple.tsh("agent")
    assert (agent.code, agent.out) == (1, "")
    assert (await simple.tsh("logout")).out.count("removed ") == 4


async def test_an_agent_that_is_away(simple: Person) -> None:
    """A login without the agent that SSH_AUTH_SOCK names is a login, with a warning; --no-agent has none."""
    simple.environment = {"SSH_AUTH_SOCK": str(simple.home / "gone")}
    login = await simple.log_in()
    assert login.code == 0
    assert login.err.startswith("warning: the key was not loaded into an agent: no ssh-agent answers")
    assert (await simple.log_in("--no-agent")).err == ""
    logout = await simple.tsh("logout")
    assert logout.code == 0
    assert logout.err.startswith("warning: no key was removed from an agent")


async def test_killed_while_it_waits(simple: Person) -> None:
    """A login that is killed at its prompt leaves the one before as it was."""
    assert (await simple.log_in()).code == 0
    before = simple.certificate.read_text()
    async with Terminal(simple, "login") as terminal:
        await terminal.expect("password")
        terminal._process.send_signal(signal.SIGKILL)
        assert await terminal.end() == -signal.SIGKILL
    assert simple.certificate.read_text() == before
    assert (await simple.tsh("status")).code == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["login", "--ttl=59s"], "59s is outside of the limits, 1m to 30h"),
        (["login", "--ttl=1801"], "30h1m is outside of the limits"),
        (["--ttl=soon", "login"], "'soon' is not a duration"),
        (["login", "--format=xml"], "'xml' is not one of"),
        (["login", "secret"], "unexpected extra argument"),
        (["clone", "4c146ec8"], "No such command 'clone'"),
        (["ls", "env"], "expected labels such as env=prod"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
async def test_misuse(tmp_path: Path, words: list[str], match: str) -> None:
    """A wrong command line, and a command of a later release, end with 2."""
    cluster = WebCluster.__new__(WebCluster)  # none is called
    done = await Person(cluster, tmp_path).tsh(*words)
    assert (done.code, done.out) == (2, "")
    assert match in done.err


async def test_other_mistakes(tmp_path: Path) -> None:
    """What can be said and not be done ends with 1 and a hint."""
    person = Person(WebCluster.__new__(WebCluster), tmp_path)
    for words, match in (
        (["login"], "error: which proxy?\nhint: "),
        (["--proxy=../../x", "login"], "is not the address of a proxy"),
        (["--proxy=localhost", "--user=../../x", "login"], "cannot be the name of a Teleport user"),
        (["login", "--proxy=localhost", "--pin=abc"], "is not a SHA-256 fingerprint"),
        (["status"], "error: not logged in\nhint: "),
        (["logout", "--proxy=other"], "error: proxy other:3080 is not known here\nhint: "),
        (["agent"], "which proxy?"),
    ):
        done = await person.tsh(*words)
        assert (done.code, done.out) == (1, "")
        assert match in done.err
    assert (await person.run("ls", "-A", tmp_path)).out == ""
