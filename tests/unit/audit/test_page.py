"""A recording becomes one page (tests/browser/test_recording_page.py has it played)."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.audit import page as pages
from runtime.audit.page import Player, page, player
from runtime.audit.reading import entries
from runtime.audit.recording import Frame
from runtime.core.errors import InvalidInput, Unavailable
from tests.servers.recorded import Recorded

PLAYER = Player("play()", "p {}")


def test_it_holds_the_player_with_its_licence() -> None:
    """What the build made of web/ is in every page: script, style, and the licences of what is in them."""
    text = "".join(page(entries(Recorded([(1, b"x")])), player()))
    assert "asciinema-player 3." in text
    assert "Apache License\n                           Version 2.0" in text
    assert "solid-js 1." in text
    assert "MIT License" in text


def test_without_the_player_it_is_said_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone in which nothing was built."""
    monkeypatch.setattr(pages, "_BUILT", "not-built")
    with pytest.raises(Unavailable, match="was not built") as caught:
        player()
    assert "make install" in caught.value.hint


def test_its_policy_lets_its_own_two_in_and_nothing_else() -> None:
    """By their hashes; there is no word for any place to load from."""
    text = "".join(page(entries(Recorded([(1, b"x")])), PLAYER))
    (policy,) = [line for line in text.splitlines() if "Content-Security-Policy" in line]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "'unsafe-eval'" not in policy
    assert "http" not in policy.replace("http-equiv", "")
    assert text.index("Content-Security-Policy") < text.index("<style")


def frames(count: int, size: int) -> Iterator[tuple[Frame, bytes]]:
    """Yield as many entries that compress badly."""
    yield Frame(0, "session.start", fields={"size": "80:25"}), b""
    for number in range(count):
        data = random.Random(number).randbytes(size)
        yield Frame(number, "print", number * size, size), data


def test_a_long_recording_takes_little_memory() -> None:
    """It is written as it is read."""
    tracemalloc.start()
    written = sum(map(len, page(frames(64, 64 * 1024), PLAYER)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written > 4_000_000
    assert peak < 2_000_000


def test_what_no_browser_would_play_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do instead."""
    monkeypatch.setattr(pages, "MAX_PRINTED_BYTES", 2 * 1024 * 1024)
    with pytest.raises(InvalidInput, match="more than 2 MiB") as caught:
        list(page(frames(33, 64 * 1024), PLAYER))
    assert "asciicast" in caught.value.hint
    assert list(page(frames(32, 64 * 1024), PLAYER))


@pytest.mark.parametrize(
    ("frame", "data", "note"),
    [
        (Frame(5, "truncated", fields={"reason": "No space <left>"}), b"", "No space &lt;left&gt;"),
        (Frame(5, "session.end", fields={"lost": True}), b"", "its node was lost"),
        (Frame(5, "print", 0, 10), b"half", "was cut off"),
        (Frame(5, "session.end", fields={}), b"", ""),
    ],
)
def test_what_is_missing_is_said(frame: Frame, data: bytes, note: str) -> None:
    """Below the player; of a whole recording nothing is."""
    end = () if frame.event == "session.end" else ((Frame(9, "session.end"), b""),)
    text = "".join(page([(Frame(0, "session.start"), b""), (frame, data), *end], PLAYER))
    assert note in text
    assert text.count('class="note"') == 1 + bool(note)  # one is for browsers without scripts


def test_the_build_is_in_the_package() -> None:
    """Both files and what they were made from."""
    built = Path(str(pages.__file__)).parent / "built"
    assert sorted(path.name for path in built.iterdir()) == ["made-from", "recording.css", "recording.js"]
