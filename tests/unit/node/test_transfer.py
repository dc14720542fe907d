"""Which requests are copies of files, which of them are allowed, and what a copy tells."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.node.copying.records import RECORD_LIMIT, record_to_bytes, text_to_bytes
from runtime.node.transfer import (
    Copy,
    FileTransfer,
    Transcript,
    copy_of_command,
    copy_of_subsystem,
    refusal,
    refused,
)

GRANT = Grant(
    login="joe",
    roles=("dev",),
    forward_agent=False,
    port_forwarding=False,
    file_copy=True,
    max_sessions=10,
    idle_timeout=None,
)
NO_COPY = replace(GRANT, file_copy=False)


def test_what_is_a_copy() -> None:
    """The subsystem sftp, and what an scp asks for; the rest is the shell's."""
    assert copy_of_subsystem("sftp", GRANT) == Copy("sftp")
    assert copy_of_subsystem("netconf", GRANT) is None
    assert copy_of_command("scp -t x", GRANT) == Copy("scp", "scp -t x")
    assert copy_of_command("rsync --server . x", GRANT) is None
    assert copy_of_command("ls", GRANT) is None
    with pytest.raises(InvalidInput):
        copy_of_command("scp -t `x`", GRANT)


@pytest.mark.parametrize(
    "command",
    [
        *("scp -t x", "scp -f x", "scp -t `x`", "/usr/bin/scp -t x", "  scp -t x", "'scp' -t x", "exec scp -t x"),
        *("/usr/lib/openssh/sftp-server", "rsync --server -e.Lsf . x", "sudo rsync --server . x", "scp a other:b"),
    ],
)
def test_no_copy_where_a_role_forbids_it(command: str) -> None:
    """fileCopy: false refuses scp, sftp and rsync, whichever way their programs are started."""
    with pytest.raises(AccessDenied, match="not allowed as joe") as denied:
        copy_of_command(command, NO_COPY)
    assert "fileCopy" in denied.value.hint


@pytest.mark.parametrize("command", ["ls", "cat scp", "grep rsync log", "./scpx", "rsyncd", "echo sftp-server"])
def test_other_commands_go_on_where_a_role_forbids_copies(command: str) -> None:
    """The control: a command that only names such a program is run."""
    assert copy_of_command(command, NO_COPY) is None


def test_no_sftp_where_a_role_forbids_it() -> None:
    """And an unknown subsystem stays unknown."""
    with pytest.raises(AccessDenied, match="sftp: copying files is not allowed"):
        copy_of_subsystem("sftp", NO_COPY)
    assert copy_of_subsystem("netconf", NO_COPY) is None


def test_a_refusal_says_what_to_do_and_holds_no_control_character() -> None:
    """What the client sent is shown without what could steer a terminal."""
    assert refusal(AccessDenied("no \x1b[2J", hint="ask")) == b"no ?[2J\r\nhint: ask\r\n"
    record = refused("scp", AccessDenied("no"), "scp -t x")
    assert record.fields() == {
        "protocol": "scp",
        "action": "refused",
        "path": "scp -t x",
        "success": False,
        "error": "no",
    }


def parted(data: list[bytes]) -> tuple[bytes, list[FileTransfer]]:
    """Return the text and records of what came in pieces."""
    records: list[FileTransfer] = []
    transcript = Transcript(records.append)
    text = b"".join(map(transcript.feed, data)) + transcript.close()
    return text, records


paths = st.binary(min_size=1).map(os.fsdecode)
transfers = st.builds(
    FileTransfer,
    protocol=st.sampled_from(["scp", "sftp"]),
    action=st.sampled_from(["upload", "rename"]),
    path=paths,
    success=st.booleans(),
    size=st.integers(0, 2**63),
    error=paths | st.just(""),
    target=paths | st.just(""),
)


@given(st.lists(transfers | st.text()), st.integers(1, 40))
def test_records_and_text_are_told_apart_however_they_come(told: list[FileTransfer | str], piece: int) -> None:
    """Every record arrives as it was, and all text without them, for names of any bytes and pieces of any length."""
    wire = b"".join(text_to_bytes(one) if isinstance(one, str) else record_to_bytes(one) for one in told)
    pieces = [wire[at : at + piece] for at in range(0, len(wire), piece)]
    text, records = parted(pieces)
    assert records == [one for one in told if isinstance(one, FileTransfer)]
    assert text == b"".join(text_to_bytes(one) for one in told if isinstance(one, str))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"protocol":"scp","action":"upload","path":"x","success":"yes"}',
        b'{"protocol":"scp","action":"upload","path":"x","success":true,"size":true}',
        b'{"protocol":"scp","action":"upload","path":"x","success":true,"more":1}',
        b"\xff",
    ],
)
def test_what_is_no_record_is_dropped(broken: bytes) -> None:
    """A process that was taken over cannot break the node with it; what follows is read on."""
    good = FileTransfer("scp", "upload", "/x", success=True)
    assert parted([b"a\x1e" + broken + b"\nb" + record_to_bytes(good)]) == (b"ab", [good])


def test_a_record_without_end_does_not_grow() -> None:
    """It is forgotten when it is longer than a record can be."""
    transcript = Transcript(lambda _: None)
    transcript.feed(b"\x1e")
    for _ in range(100):
        assert transcript.feed(b"x" * 64_000) == b""
        assert len(transcript._begun) <= RECORD_LIMIT + 64_000
    assert transcript.close() == b""


def test_the_longest_paths_fit_a_record() -> None:
    """Two paths of PATH_MAX bytes, none of them UTF-8."""
    record = FileTransfer(
        "sftp", "rename", os.fsdecode(b"\xff" * 4096), success=True, target=os.fsdecode(b"\xfe" * 4096)
    )
    assert len(record_to_bytes(record)) < RECORD_LIMIT
    assert json.loads(record_to_bytes(record)[1:])["target"] == record.target
