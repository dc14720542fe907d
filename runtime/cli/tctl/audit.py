"""tctl audit: whether the event log is whole."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import console
from runtime.cli.tctl.connection import Where, connecting, with_auth
from runtime.cli.tctl.output import format_option, show

if TYPE_CHECKING:
    from uuid import UUID

    from runtime.api.client import AuthClient
    from runtime.audit.compare import Segment
    from runtime.audit.verify import Report


@connecting
@click.group()
def audit() -> None:
    """Check the audit log."""


@connecting
@audit.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--from-start", is_flag=True, help="The first event of all has to be there: no older files were removed.")
@click.option(
    "--offline", is_flag=True, help="Look at the files alone; do not compare them with the cluster's storage."
)
@click.option(
    "--server", type=click.UUID, help="Id of the auth server whose log it is [default: by auth.identity beside FOLDER]."
)
@format_option
def verify(folder: Path | None, server: UUID | None, shape: str, *, from_start: bool, offline: bool) -> None:
    r"""Check the event log in FOLDER [default: log in data_dir], and name where it is not as it was written.

    Each event names the SHA-256 of the line before it, so a line that was changed, removed or put in between is found
    in the files alone. That the last lines were cut off, or all links made anew, is found by what this auth server put
    into the cluster's storage; auth is asked for that, and if it cannot be, it is said. The exit code is 1 if the log
    is not as it was written.

    \b
    $ tctl audit verify
    1203 events in 2 files, head 5feceb66…, compared with 17 segments in the storage
    """
    from runtime.audit.chain import START
    from runtime.audit.compare import missing
    from runtime.audit.verify import verify as check
    from runtime.core.errors import CorruptState, NotFound, TeleportError

    folder = folder or _own_folder()
    segments: list[Segment] | None = None
    why_not = "--offline"
    try:
        if not offline:
            segments = _stored(server or _server_of(folder), folder)
    except TeleportError as error:
        why_not = str(error)
    try:
        report = check(folder, start=START if from_start else None, heads={each.head for each in segments or ()})
    except OSError as error:
        raise NotFound(
            f"the audit log in {folder} cannot be read: {error.strerror}",
            hint="Run tctl where auth runs, as its user; or name the folder: tctl audit verify FOLDER",
        ) from error
    said = f"{_counted(report.events, 'event')} in {_counted(report.files, 'file')}, head {report.head}"
    if segments is None:
        console.say(f"not compared with the cluster's storage ({why_not}): lines cut off at the end are not found")
    else:
        report.problems.extend(missing(report, segments, folder))
        said += f", compared with {_counted(len(segments), 'segment')} in the storage"
    show(shape, lambda: said, lambda: _data(report, segments))
    for problem in report.problems:
        console.say(str(problem))
    if report.problems:
        raise CorruptState(
            f"the audit log in {folder} is not as it was written",
            hint="Compare with a copy: what the first problem names, or the line before it, was changed.",
        )


def _data(report: Report, segments: list[Segment] | None) -> dict[str, object]:
    """Return what was found, for programs."""
    return {
        "events": report.events,
        "files": report.files,
        "head": report.head,
        "compared": None if segments is None else len(segments),
        "problems": [
            {"file": str(problem.path), "line": problem.line, "what": problem.what} for problem in report.problems
        ],
    }


def _server_of(folder: Path) -> UUID:
    """Return whose log it is, by the identity beside it. Raises TeleportError."""
    from runtime.core.errors import NotFound
    from runtime.service.identity import read_identity

    path = folder.absolute().parent / "auth.identity"
    try:
        return read_identity(path).id
    except OSError as error:
        raise NotFound(f"whose log it is is not known, as {path} cannot be read: name it with --server") from error


def _stored(server: UUID, folder: Path) -> list[Segment]:
    """Return what an auth server put into the storage since the log begins. Raises TeleportError."""
    from datetime import UTC, datetime, time

    from runtime.api import methods
    from runtime.api.event_messages import SegmentPage, SegmentQuery
    from runtime.audit.compare import Segment
    from runtime.audit.verify import removed_before
    from runtime.core.clock import SystemClock
    from runtime.core.defaults import EVENT_RETENTION

    try:
        first = removed_before(folder)
    except OSError:  # which the check tells
        return []
    since = datetime.combine(first, time(), UTC) if first else SystemClock().now() - EVENT_RETENTION
    query = SegmentQuery(server=server, since=since)

    async def work(auth: AuthClient) -> list[Segment]:
        async with aclosing(auth.pieces(methods.SEGMENTS, query, SegmentPage)) as pages:
            return [Segment(**each.model_dump()) async for page in pages for each in page.segments]

    return with_auth(work)


def _own_folder() -> Path:
    from runtime.service.flags import Flags
    from runtime.service.load import load_settings

    where = click.get_current_context().find_root().ensure_object(Where)
    return Path(load_settings(Flags(config=where.config)).teleport.data_dir) / "log"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
