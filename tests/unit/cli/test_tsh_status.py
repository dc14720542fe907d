"""`tsh status`: what is shown of a login, by a clock that is moved."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.cli.tsh_status import as_json, as_text, status_of
from runtime.core.errors import AccessDenied
from runtime.pki.keys import generate_key
from tests.unit.cli.tsh_proxy import Cluster

START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a folder with a login of an hour at 12:00."""
    home = Home(tmp_path)
    cluster, key = Cluster(now=lambda: START), generate_key()
    said = cluster.login({"user": "joe", "public_key": key.public.line, "ttl": 3600})
    hosts = AuthorityKeys("main", "host", (cluster.hosts.key.public.line,))
    profile = Profile(Address("localhost"), "joe", "", "main", 3023, (hosts,))
    home.store(profile, Keys(key.to_openssh(), key.public.line, said["certificate"]))
    return home


def test_a_login(home: Home) -> None:
    """A login that is valid is shown with all that its certificate says."""
    (profile,) = home.profiles()
    status = status_of(home, profile, current=True)
    now = START + timedelta(minutes=10, milliseconds=400)
    assert as_text(status, now) == (
        "> Proxy:        localhost:3080\n"
        "  User:         joe\n"
        "  Cluster:      main\n"
        "  Logins:       joe, root\n"
        "  Roles:        dev\n"
        "  Valid until:  2026-05-08 13:00:00 UTC (50m left)\n"
        f"  Certificate:  {home.path}/keys/localhost/joe.cert"
    )
    assert json.loads(json.dumps(as_json(status, now))) == {
        "proxy": "localhost:3080",
        "user": "joe",
        "cluster": "main",
        "current": True,
        "valid": True,
        "logins": ["joe", "root"],
        "roles": ["dev"],
        "valid_after": "2026-05-08T11:59:00Z",
        "valid_before": "2026-05-08T13:00:00Z",
        "certificate": f"{home.path}/keys/localhost/joe.cert",
    }
    assert status.error(now) is None
    assert as_text(status_of(home, profile, current=False), now).startswith("  Proxy: ")


@pytest.mark.parametrize(
    ("after", "shown", "error"),
    [
        (timedelta(minutes=59, seconds=59), "(1s left)", None),
        (timedelta(hours=1), "(EXPIRED 0s ago)", "expired at 2026-05-08 13:00:00 UTC"),
        (timedelta(days=1), "(EXPIRED 23h ago)", "expired at 2026-05-08 13:00:00 UTC"),
        (timedelta(minutes=-2), "(NOT VALID before 2026-05-08 11:59:00 UTC)", "not valid before 2026-05-08 11:59:00"),
    ],
)
def test_the_time(home: Home, after: timedelta, shown: str, error: str | None) -> None:
    """To the second: what has expired is marked and is an error that says how to log in again."""
    (profile,) = home.profiles()
    status = status_of(home, profile, current=True)
    now = START + after
    assert f"Valid until:  2026-05-08 13:00:00 UTC {shown}\n" in as_text(status, now)
    assert as_json(status, now)["valid"] is (error is None)
    found = status.error(now)
    if error is None:
        assert found is None
        return
    assert isinstance(found, AccessDenied)
    assert error in str(found)
    assert found.hint


def test_logged_out(home: Home) -> None:
    """After logging out the proxy is still listed, and nobody at it."""
    (profile,) = home.profiles()
    home.forget(profile, ["joe"])
    (profile,) = home.profiles()
    status = status_of(home, profile, current=True)
    assert as_text(status, START).endswith("  Valid until:  not logged in")
    assert as_json(status, START)["valid"] is False
    error = status.error(START)
    assert error is not None
    assert error.hint == "Log in: tsh --proxy=localhost:3080 --user=joe login"


def test_a_damaged_certificate(home: Home) -> None:
    """A certificate that cannot be read is told as damaged, and as no login."""
    (profile,) = home.profiles()
    home.certificate_path(profile.proxy, "joe").resolve().write_text("ssh-ed25519-cert-v01@openssh.com AAAA")
    status = status_of(home, profile, current=True)
    assert "damaged: the certificate cannot be read" in as_text(status, START)
    assert as_json(status, START)["valid"] is False
    assert "cannot be used" in str(status.error(START))


def test_names_are_escaped(home: Home) -> None:
    """A cluster cannot paint on the terminal, whatever is in the file."""
    (profile,) = home.profiles()
    painted = Profile(profile.proxy, profile.user, cluster="\x1b[2Jmain\nUser: root")
    assert "Cluster:      \\x1b[2Jmain\\x0aUser: root\n" in as_text(status_of(home, painted, current=True), START)
