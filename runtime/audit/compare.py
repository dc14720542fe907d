"""Does the log on a disk have what its server put into the cluster's storage? Pure.

The chain alone cannot tell: a log whose last lines were cut off, or that was written anew from some line on, is as
whole as any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from runtime.audit.verify import Problem, Report

MARGIN = timedelta(hours=1)
"""An event's time may be a little off the day of its file: a node's clock is ahead, or the event took its time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Events in the storage that one server logged one after the other."""

    head: str
    """The link that the line after them names."""
    first: datetime
    last: datetime
    events: int


def missing(report: Report, segments: Iterable[Segment], folder: Path) -> Iterator[Problem]:
    """Yield what the storage has and the log does not, runs of segments in one.

    `report` was made with the heads of these segments. What is older than the log's first file was removed with a file,
    unless the log has its start.
    """
    oldest = None
    if not report.has_start and report.first is not None:
        oldest = datetime.combine(report.first, time(), UTC) + MARGIN
    run: list[Segment] = []
    for segment in segments:
        if segment.head in report.found or (oldest is not None and segment.last < oldest):
            if run:
                yield _problem(folder, run)
            run = []
        else:
            run.append(segment)
    if run:
        yield _problem(folder, run)


def _problem(folder: Path, run: list[Segment]) -> Problem:
    events = sum(segment.events for segment in run)
    first, last = min(segment.first for segment in run), max(segment.last for segment in run)
    return Problem(
        folder,
        0,
        f"the cluster's storage has {events} {'event' if events == 1 else 'events'} of this server from "
        f"{first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ} that are not in this log, or not as they were: lines "
        "were cut off, or changed with all links after them",
    )
