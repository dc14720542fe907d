"""tctl sessions: the table, the formats, and what is said while a session does not end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.session_messages import Participant, RunningSession, SessionReport
from runtime.cli.tctl import sessions
from runtime.core.callers import CallerKind
from tests.servers.auth_thread import AuthThread, auth_thread

NODE = "00000000-0000-4000-8000-000000000001"
SID = "10000000-0000-4000-8000-000000000001"
STARTED = datetime(2026, 11, 22, 20, 1, 2, tzinfo=UTC)


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Run an auth service."""
    with auth_thread(tmp_path) as running:
        yield running


def report(auth: AuthThread, *running: RunningSession) -> None:
    """Report as the node."""

    async def call(client: AuthClient) -> None:
        told = SessionReport(boot=uuid.UUID(NODE), time=datetime.now(UTC), sessions=running)
        await client.call(methods.SESSIONS_REPORT, told)

    auth.local(CallerKind.NODE, NODE, call)


def session(sid: str = SID, command: str = "", parties: tuple[Participant, ...] = ()) -> RunningSession:
    """Return a session of joe."""
    return RunningSession(
        sid=uuid.UUID(sid),
        user="joe",
        login="root",
        started=STARTED,
        command=command,
        interactive=False,
        parties=parties,
    )


def test_the_table(auth: AuthThread) -> None:
    """The oldest first, nodes by their id where no name is known; what is typed cannot disguise itself."""
    report(auth, session("20000000-0000-4000-8000-000000000001", "ls \x1b[31m"), session())
    done = auth.tctl("sessions", "ls")
    assert (done.code, done.err) == (0, "")
    blank = " " * 5
    assert done.out.splitlines() == [
        blank.join(
            ["Session ID".ljust(36), "User", "Login", "Node".ljust(36), "Started (UTC)".ljust(19), "Joined", "Command"],
        ),
        blank.join(
            ["-" * 10 + " " * 26, "----", "-----", "----".ljust(36), "-" * 13 + " " * 6, "------", "-------"],
        ),
        blank.join([SID, "joe ", "root ", NODE, "2026-11-22 20:01:02"]),
        blank.join([SID.replace("1", "2", 1), "joe ", "root ", NODE, "2026-11-22 20:01:02", " " * 6, "ls \\x1b[31m"]),
    ]


def test_who_has_joined(auth: AuthThread) -> None:
    """Those who take part and those who watch are told apart."""
    report(auth, session(parties=(Participant(user="ann", mode="peer"), Participant(user="bob", mode="observer"))))
    assert "ann (peer), bob (observer)" in auth.tctl("sessions", "ls").out


def test_json(auth: AuthThread) -> None:
    """Programs get all that is known."""
    assert json.loads(auth.tctl("sessions", "ls", "--format=json").out) == []
    report(auth, session(command="make"))
    (entry,) = json.loads(auth.tctl("sessions", "ls", "--format=json").out)
    assert entry == {
        "session": {
            "sid": SID,
            "user": "joe",
            "login": "root",
            "started": "2026-11-22T20:01:02Z",
            "command": "make",
            "interactive": False,
            "joinable": False,
            "parties": [],
        },
        "node": NODE,
        "hostname": "",
    }
    assert f"sid: {SID}" in auth.tctl("sessions", "ls", "--format=yaml").out


def test_a_node_that_does_not_obey(auth: AuthThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that the session still runs, and what becomes of the order; ids that are unknown are named too."""
    monkeypatch.setattr(sessions, "WAIT_SECONDS", 0.2)
    report(auth, session())
    nowhere = str(uuid.uuid4())
    done = auth.tctl("sessions", "kill", SID, nowhere)
    assert (done.code, done.out) == (1, "")
    assert f"error: no session {nowhere} is running\n" in done.err
    assert f"error: not ended yet: {SID}\n" in done.err
    assert "hint: The order stands for a day" in done.err
    (event,) = [event for event in auth.events() if event["event"] == "session.killed"]
    assert (event["sid"], event["server_id"], event["user"]) == (SID, NODE, "joe")
    assert event["by"].startswith("admin ")
