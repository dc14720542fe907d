"""tctl auth rotate against a running auth service: its tables, its JSON, and what it refuses with what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, Presence
from runtime.core.callers import CallerKind
from tests.servers.auth_thread import AuthThread, auth_thread, failed, ok

WEB = UUID(int=1)


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Yield a running auth service."""
    with auth_thread(tmp_path) as auth:
        yield auth


def plain(text: str) -> str:
    """Return tables with fingerprints that are numbered as they come, and times that are none, of the same width."""
    seen: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return seen.setdefault(match[0], f"SHA256:{len(seen) + 1:x<43}")

    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-01 00:00:00", re.sub(r"SHA256:[\w+/]{43}", number, text))


def beat(auth: AuthThread, **followed: int) -> None:
    """Let a node tell of itself."""

    async def send(client: AuthClient) -> None:
        presence = Presence(id=WEB, kind=CallerKind.NODE, name="web", addr="192.0.2.1:3022")
        await client.call(methods.HEARTBEAT, Heartbeat(presence=presence, followed=followed))

    auth.local(CallerKind.NODE, str(WEB), send)


def test_standby(auth: AuthThread) -> None:
    """Without a rotation it says so, and which keys there are."""
    assert plain(ok(auth.tctl("auth", "rotate", "--status"))) == (
        "CA Type     Phase       Since     Next Phase     Members That Follow\n"
        "-------     -----       -----     ----------     -------------------\n"
        "user        standby                              0 of 0\n"
        "host        standby                              0 of 0\n"
        "\n"
        "CA Type     Trusted Key                                            Created                     Signs\n"
        "-------     -----------                                            -------                     -----\n"
        "user        SHA256:1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx     2026-01-01 00:00:00 UTC     users\n"
        f"host        SHA256:2{'x' * 42}     2026-01-01 00:00:00 UTC     hosts,members\n"
    )


def test_by_hand(auth: AuthThread) -> None:
    """Each step prints where that leads, and who has not followed yet."""
    beat(auth)
    assert plain(ok(auth.tctl("auth", "rotate", "--manual"))) == (
        "CA Type     Phase     Since                       Next Phase                  Members That Follow\n"
        "-------     -----     -----                       ----------                  -------------------\n"
        "user        init      2026-01-01 00:00:00 UTC     update_clients, by hand     0 of 1\n"
        "host        init      2026-01-01 00:00:00 UTC     update_clients, by hand     0 of 1\n"
        "\n"
        "CA Type     Trusted Key                                            Created                     Signs\n"
        "-------     -----------                                            -------                     -----\n"
        "user        SHA256:1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx     2026-01-01 00:00:00 UTC     users\n"
        "user        SHA256:2xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx     2026-01-01 00:00:00 UTC     nothing\n"
        f"host        SHA256:3{'x' * 42}     2026-01-01 00:00:00 UTC     hosts,members\n"
        "host        SHA256:4xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx     2026-01-01 00:00:00 UTC     nothing\n"
        "\n"
        "Not Followed Yet     Node ID                                  CA Type\n"
        "----------------     -------                                  -------\n"
        "node web             00000000-0000-0000-0000-000000000001     user,host\n"
    )
    assert failed(auth.tctl("auth", "rotate", "--phase=update_clients")) == (
        "error: the user CA cannot go on to phase update_clients: 1 of 1 members have not followed phase init yet:"
        " node web\n"
        "hint: Wait until they have (tctl auth rotate --status); or stop them, or go on with --force: then they"
        " may have to join anew.\n"
    )
    beat(auth, user=1, host=1)
    shown = plain(ok(auth.tctl("auth", "rotate", "--phase=update_clients", "--type=host")))
    assert "host        update_clients     2026-01-01 00:00:00 UTC     update_servers, by hand     0 of 1" in shown
    assert shown.count("hosts\n") == shown.count("members\n") == 1
    assert not re.search(r"^user\b", shown, re.MULTILINE)


def test_all_keys_are_listed_and_exported(auth: AuthThread) -> None:
    """Whoever copies keys to other machines gets the old and the new ones, while both are trusted."""
    before = ok(auth.tctl("auth", "export")).splitlines()
    ok(auth.tctl("auth", "rotate", "--manual"))
    after = ok(auth.tctl("auth", "export")).splitlines()
    assert (len(before), len(after)) == (2, 4)
    assert set(before) < set(after)
    keys = [line.split()[0] for line in ok(auth.tctl("auth", "ls")).splitlines() if "SHA256:" in line]
    assert keys == ["user", "user", "host", "host"]


def test_by_itself(auth: AuthThread) -> None:
    """The next phase has a time; for programs there is JSON and YAML."""
    shown = ok(auth.tctl("auth", "rotate", "--type=user", "--grace-period=10h"))
    assert re.search(r"^user +init +\S+ \S+ UTC +update_clients, from \S+ \S+ UTC +0 of 0$", shown, re.MULTILINE)
    (found,) = json.loads(ok(auth.tctl("auth", "rotate", "--status", "--type=user", "--format=json")))
    assert (found["type"], found["phase"], found["mode"], found["grace"]) == ("user", "init", "auto", 36000.0)
    assert [key["signs"] for key in found["keys"]] == [["users"], []]
    assert found["next_phase"] == "update_clients"
    assert found["next_due"] > found["changed"] == found["started"]
    as_yaml = yaml.safe_load(ok(auth.tctl("auth", "rotate", "--status", "--type=user", "--format=yaml")))
    assert as_yaml[0]["rotation"] == found["rotation"]
    assert "PRIVATE" not in shown + json.dumps(found)
    by = [(event["type"], event["phase"], event["mode"]) for event in auth.events() if event["event"] == "ca.rotated"]
    assert by == [("user", "init", "auto")]


@pytest.mark.parametrize(
    ("before", "arguments", "error", "hint"),
    [
        ((), ("--phase=rollback",), "there is nothing to roll back: no rotation is running", "--status"),
        ((), ("--phase=standby",), "no rotation is running, so phase standby cannot be next", "tctl auth rotate"),
        (("--manual",), (), "a rotation is running already: the user CA is in phase init", "--phase=rollback"),
        (("--manual",), ("--phase=init",), "a rotation is running already", "--phase=rollback"),
        (("--manual",), ("--phase=update_servers",), "phase update_servers does not follow init", "update_clients"),
        (("--manual",), ("--phase=standby", "--force"), "phase standby does not follow init", "update_clients"),
        ((), ("--grace-period=721h",), "the grace period is from 0 to 720h", "30h is the default"),
    ],
)
def test_refused(auth: AuthThread, before: tuple[str, ...], arguments: tuple[str, ...], error: str, hint: str) -> None:
    """What cannot be done changes nothing, and says what can."""
    if before:
        ok(auth.tctl("auth", "rotate", *before))
    was = ok(auth.tctl("auth", "rotate", "--status"))
    said, what_to_do = failed(auth.tctl("auth", "rotate", *arguments)).splitlines()
    assert error in said
    assert hint in what_to_do
    assert ok(auth.tctl("auth", "rotate", "--status")) == was


def test_back(auth: AuthThread) -> None:
    """From the first phase back to where it began."""
    keys = ok(auth.tctl("auth", "ls"))
    ok(auth.tctl("auth", "rotate", "--manual"))
    assert "rollback" in ok(auth.tctl("auth", "rotate", "--phase=rollback"))
    assert "standby" in ok(auth.tctl("auth", "rotate", "--phase=standby"))
    assert ok(auth.tctl("auth", "ls")) == keys
