"""tctl recordings: sessions that were recorded, and their export for other players."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.output import format_option, plain, show

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.messages import RecordingEntry
    from runtime.audit.recording import Frame, Part

FORMATS = ("asciicast", "text", "bytes", "log")


@connecting
@click.group()
def recordings() -> None:
    """List and export recorded sessions."""


@connecting
@recordings.command()
@click.option("--user", metavar="NAME", default="", help="Those of one Teleport user.")
@format_option
def ls(user: str, shape: str) -> None:
    """List recordings, the latest first."""
    from runtime.api import messages, methods

    entries = ask(methods.RECORDINGS_LIST, messages.RecordingQuery(user=user)).recordings
    show(shape, lambda: recordings_table(entries), lambda: plain(entries))


@connecting
@recordings.command()
@click.argument("sid", type=click.UUID)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write [default: stdout]."
)
@click.option(
    "--format",
    "shape",
    type=click.Choice(FORMATS),
    default="asciicast",
    show_default=True,
    help="asciicast: version 2, for asciinema. text: what was shown, without control sequences. bytes, log: the "
    "recording's own files.",
)
def export(sid: uuid.UUID, output: Path | None, shape: str) -> None:
    """Write a recording for other programs. SID is the session's id, see tctl recordings ls."""
    from runtime.core.errors import InvalidInput

    pieces = fetch(sid)
    if output is None:
        _write(sys.stdout.buffer, shape, *pieces)
        return
    partial = output.with_name(f".{output.name}.part")
    try:
        with partial.open("xb") as file:
            _write(file, shape, *pieces)
        partial.replace(output)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}", hint="Name another file.") from error
    finally:
        partial.unlink(missing_ok=True)
    console.say(f"written to {console.visible(str(output))}")


def fetch(sid: uuid.UUID) -> tuple[bytes, bytes]:
    """Return the log and the bytes of a recording, as auth has them."""
    from runtime.audit.recording import BYTES, LOG

    async def work(auth: AuthClient) -> tuple[bytes, bytes]:
        found = [b"".join([piece async for piece in _pieces(auth, sid, part)]) for part in (LOG, BYTES)]
        return found[0], found[1]

    return with_auth(work)


async def _pieces(auth: AuthClient, sid: uuid.UUID, part: Part) -> AsyncGenerator[bytes, None]:
    from runtime.api import messages, methods

    offset = 0
    while data := (
        await auth.call(methods.RECORDING_READ, messages.RecordingRead(sid=sid, part=part, offset=offset))
    ).data:
        yield data
        offset += len(data)


def _write(file: BinaryIO, shape: str, log: bytes, printed: bytes) -> None:
    from runtime.audit.asciicast import asciicast
    from runtime.audit.plain_text import plain_text

    if shape == "log":
        file.write(log)
    elif shape == "bytes":
        file.write(printed)
    elif shape == "text":
        file.write(plain_text(printed).encode())
    else:
        file.writelines(f"{line}\n".encode() for line in asciicast(_shown(log, printed)))
    file.flush()


def _shown(log: bytes, printed: bytes) -> Iterator[tuple[Frame, bytes]]:
    from runtime.audit.recording import frames

    return ((frame, printed[frame.offset : frame.offset + frame.size]) for frame in frames(log.split(b"\n")))


def recordings_table(entries: Iterable[RecordingEntry]) -> str:
    """Return recordings as a table."""
    rows = (
        (
            str(entry.session.sid),
            entry.session.user,
            entry.session.login,
            f"{entry.session.started:%Y-%m-%d %H:%M:%S}",
            str(entry.size) if entry.over else "(live)",
            entry.session.command[:60],
        )
        for entry in entries
    )
    return table(("Session ID", "User", "Login", "Started (UTC)", "Bytes", "Command"), rows)
