"""What a killed node ran, the next one tells of: once, and only what was not told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.audit.events import EventType
from runtime.node.journal import REASON, Journal, lost_end

SIDS = [f"10000000-0000-4000-8000-00000000000{number}" for number in range(3)]


class Log:
    """Takes events."""

    def __init__(self) -> None:
        self.events: list[tuple[EventType, dict[str, Any]]] = []

    def emit(self, event: EventType, **fields: Any) -> None:
        """Take one."""
        self.events.append((event, fields))


def begin(journal: Journal, sid: str) -> None:
    """Begin a command in a terminal."""
    journal.begin(
        sid,
        {
            EventType.EXEC: lost_end(EventType.EXEC, {"sid": sid, "command": "make"}),
            EventType.SESSION_END: lost_end(EventType.SESSION_END, {"sid": sid, "size": "80:25"}),
        },
    )


def test_what_was_left_is_told_of_once(tmp_path: Path) -> None:
    """Of those that had ended nothing is told; nor of an end whose event waits for auth already."""
    journal = Journal(tmp_path / "running")
    for sid in SIDS:
        begin(journal, sid)
    journal.end(SIDS[0])
    journal.end(SIDS[0])
    log = Log()
    Journal(tmp_path / "running").tell(log.emit, told=[(EventType.EXEC, SIDS[2])])
    assert log.events == [
        (EventType.EXEC, {"sid": SIDS[1], "command": "make", "exitCode": 255, "exitError": REASON, "lost": True}),
        (EventType.SESSION_END, {"sid": SIDS[1], "size": "80:25", "reason": REASON, "lost": True}),
        (EventType.SESSION_END, {"sid": SIDS[2], "size": "80:25", "reason": REASON, "lost": True}),
    ]
    Journal(tmp_path / "running").tell(log.emit, told=[])
    assert len(log.events) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"no.event": {}}'])
def test_a_file_that_was_cut_off(tmp_path: Path, content: str) -> None:
    """It keeps no other from being told of, and goes."""
    journal = Journal(tmp_path)
    (tmp_path / SIDS[0]).write_text(content)
    begin(journal, SIDS[1])
    log = Log()
    journal.tell(log.emit, told=[])
    assert [fields["sid"] for _, fields in log.events] == [SIDS[1]] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the session goes on."""
    journal = Journal(tmp_path / "running")
    (tmp_path / "running").rmdir()
    begin(journal, SIDS[0])
    assert "will not be known" in caplog.text
    journal.end(SIDS[0])
