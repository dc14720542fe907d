"""tctl recordings verify: whether recordings are as the nodes wrote them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.cli.tctl.source import reading

if TYPE_CHECKING:
    from uuid import UUID

    from runtime.api.recording_messages import RecordingEntry
    from runtime.audit.reading import Source

ANOTHER = "both files were written anew: the log's head is not the one that the cluster's storage has of it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a recording; nothing if it is whole."""

    sid: UUID
    problems: Sequence[str]
    compared: bool
    """Whether the storage knew its head."""


def judge(entry: RecordingEntry) -> Verdict:
    """Read all of a recording that is over, and check it. Raises AccessDenied, Unavailable where auth is away."""
    from runtime.core.errors import NotFound

    sid = entry.session.sid
    try:
        problems, head = reading(sid, _verify)
    except NotFound as error:
        return Verdict(sid, [str(error)], compared=False)
    if entry.head and head != entry.head and not problems:
        problems = [ANOTHER]
    return Verdict(sid, problems, compared=bool(entry.head))


def _verify(source: Source) -> tuple[list[str], str]:
    """Return what is wrong with the files as such, and the head of the log."""
    from runtime.audit.chain import link
    from runtime.audit.files import last_line
    from runtime.audit.reading import copy
    from runtime.audit.recording import BYTES, LOG, verify

    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as printed:
        copy(source, LOG, log)
        copy(source, BYTES, printed)
        log.flush()
        head = link(last_line(log.fileno())[0])
        log.seek(0)
        printed.seek(0)
        return verify(log, printed), head
