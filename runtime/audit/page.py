"""A recorded session as one page that any browser plays from a file, with no network: what it needs is in it.

The recording is in the page as an asciicast, compressed and in base64, whose letters are never markup. The player
(`web/`) is made by the build. The page's own policy lets nothing else run, and nothing be fetched or sent.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from html import escape as _escape
from importlib.resources import files

from runtime.audit.asciicast import asciicast, describe
from runtime.audit.events import EventType
from runtime.audit.recording import TRUNCATED, Frame
from runtime.core.errors import InvalidInput, Unavailable

MAX_PRINTED_BYTES = 128 * 1024 * 1024
"""What a session may have printed. A browser has all of it in memory, several times."""

_GZIP = 31
"""zlib's number for gzip's format, with the largest window."""
_BASE64_UNIT = 3
_BUILT = "built"


@dataclass(frozen=True, slots=True)
class Player:
    """The script and the style sheet that play a page's recording."""

    script: str
    style: str


def player() -> Player:
    """Return what the build has made of `web/`. Raises Unavailable where it was not built."""
    folder = files("runtime.audit") / _BUILT
    try:
        return Player(*((folder / f"recording.{kind}").read_text("utf-8") for kind in ("js", "css")))
    except FileNotFoundError:
        raise Unavailable(
            "the player for pages was not built into this teleport",
            hint="In a clone: make install, or python tools/web.py. A wheel that is built from one has it.",
        ) from None


def page(frames: Iterable[tuple[Frame, bytes]], player: Player, *, idle_limit: float | None = None) -> Iterator[str]:
    """Yield a page in pieces, from frames, each with what was printed. `idle_limit` is as in `asciicast`.

    Raises InvalidInput, in the middle, for more than a browser can take.
    """
    read = iter(frames)
    first = next(read, (Frame(0, ""), b""))
    notes: list[str] = []
    yield _head(first[0], player)
    yield from _packed(asciicast(_noting(_chained(first, read), notes), idle_limit=idle_limit))
    yield _tail(notes, player)


def _chained(first: tuple[Frame, bytes], rest: Iterator[tuple[Frame, bytes]]) -> Iterator[tuple[Frame, bytes]]:
    yield first
    yield from rest


def _noting(frames: Iterable[tuple[Frame, bytes]], notes: list[str]) -> Iterator[tuple[Frame, bytes]]:
    """Pass frames on, and note what a viewer has to know of them."""
    size = 0
    ended = False
    for frame, data in frames:
        size += len(data)
        if size > MAX_PRINTED_BYTES:
            raise InvalidInput(
                f"the session printed more than {MAX_PRINTED_BYTES // 1024 // 1024} MiB: no browser would play it",
                hint="Play it with tsh play, or export it with --format=asciicast.",
            )
        if len(data) < frame.size:
            notes.append("Some of what was printed is missing: the recording was cut off.")
        fields = frame.fields or {}
        if frame.event == TRUNCATED:
            notes.append(f"Nothing was recorded from here on: {fields.get('reason', '')}.")
        if frame.event == EventType.SESSION_END:
            ended = True
            if fields.get("lost"):
                notes.append("How the session ended nobody saw: its node was lost.")
        yield frame, data
    if not ended:
        notes.append("The recording has no end: the session was still running when this page was made.")


def _packed(lines: Iterable[str]) -> Iterator[str]:
    packer = zlib.compressobj(wbits=_GZIP)  # level 9 takes ten times as long over what is all alike
    held = b""
    for line in lines:
        held += packer.compress(f"{line}\n".encode())
        if cut := len(held) - len(held) % _BASE64_UNIT:
            yield base64.b64encode(held[:cut]).decode()
            held = held[cut:]
    yield base64.b64encode(held + packer.flush()).decode()


def _head(first: Frame, player: Player) -> str:
    told = describe(first)
    user, login, sid = told.get("user", "unknown"), told.get("login", "unknown"), told.get("sid", "")
    title = f"{user} as {login}" + (f" on {told['addr.local']}" if "addr.local" in told else "")
    when = _when(told.get("time", ""))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(player.script)} 'wasm-unsafe-eval'",
            f"style-src {_hash(player.style)}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    details = (
        ("Started", when),
        ("User", user),
        ("Login", login),
        ("Node", " ".join(told[name] for name in ("addr.local", "server_id") if name in told)),
        ("From", told.get("addr.remote", "")),
        ("Command", told.get("command", "")),
        ("Session", sid),
    )
    rows = "\n".join(f"<div><dt>{name}</dt><dd>{_shown(value)}</dd></div>" for name, value in details if value)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_shown(title)}{_shown(f", {when}") if when else ""}</title>
<style>{player.style}</style>
</head>
<body>
<main>
<h1>{_shown(title)}</h1>
<dl>
{rows}
</dl>
<noscript><p class="note">This page plays the recording with JavaScript, which this browser does not run.</p></noscript>
<div id="player">Unpacking the recording …</div>
<script type="text/plain" id="recording">"""


def _tail(notes: Iterable[str], player: Player) -> str:
    told = "".join(f'<p class="note">{_shown(note)}</p>\n' for note in dict.fromkeys(notes))
    return f"""</script>
{told}<p class="keys">Space: pause and go on. Left, right: five seconds back and forth. 0 to 9: jump. ?: all keys.</p>
</main>
<script>{player.script}</script>
</body>
</html>
"""


def _shown(text: str) -> str:
    """Return text as markup that shows it, characters that are not to be seen (one that turns text round, say) too."""
    return _escape("".join(character if character.isprintable() else "\ufffd" for character in text))


def _when(time: str) -> str:
    try:
        return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return ""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
