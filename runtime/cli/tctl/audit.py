"""tctl audit: whether the event log is whole."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.cli import console
from runtime.cli.tctl.connection import Where, connecting
from runtime.cli.tctl.output import format_option, show


@connecting
@click.group()
def audit() -> None:
    """Check the audit log."""


@connecting
@audit.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--from-start", is_flag=True, help="The first event of all has to be there: no older files were removed.")
@format_option
def verify(folder: Path | None, shape: str, *, from_start: bool) -> None:
    """Check the chain through the event log in FOLDER [default: log in data_dir], and name where it breaks.

    Each event names the SHA-256 of the line before it. The exit code is 1 if the log is not as it was written. Compare
    the head with one that was noted elsewhere: that the last events were cut off, nothing else can tell.
    """
    from runtime.audit.chain import START
    from runtime.audit.verify import verify as check
    from runtime.core.errors import CorruptState, NotFound

    folder = folder or _own_folder()
    try:
        report = check(folder, start=START if from_start else None)
    except OSError as error:
        raise NotFound(
            f"the audit log in {folder} cannot be read: {error.strerror}",
            hint="Run tctl where auth runs, as its user; or name the folder: tctl audit verify FOLDER",
        ) from error
    said = f"{_counted(report.events, 'event')} in {_counted(report.files, 'file')}"
    show(
        shape,
        lambda: f"{said}, head {report.head}",
        lambda: {
            "events": report.events,
            "files": report.files,
            "head": report.head,
            "problems": [
                {"file": str(problem.path), "line": problem.line, "what": problem.what} for problem in report.problems
            ],
        },
    )
    for problem in report.problems:
        console.say(str(problem))
    if report.problems:
        raise CorruptState(
            f"the audit log in {folder} is not as it was written",
            hint="Compare with a copy: what the first problem names, or the line before it, was changed.",
        )


def _own_folder() -> Path:
    from runtime.service.flags import Flags
    from runtime.service.load import load_settings

    where = click.get_current_context().find_root().ensure_object(Where)
    return Path(load_settings(Flags(config=where.config)).teleport.data_dir) / "log"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
