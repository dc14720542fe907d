"""tsh's own client: how ssh's options are read."""

from __future__ import annotations

import pytest

from runtime.cli.tsh_client import Forward, Settings
from runtime.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080:db:80", Forward("localhost", 8080, "db", 80)),
        ("0:db:80", Forward("localhost", 0, "db", 80)),
        ("127.0.0.1:8080:db:80", Forward("127.0.0.1", 8080, "db", 80)),
        (":8080:db:80", Forward("", 8080, "db", 80)),
        ("*:8080:db:80", Forward("", 8080, "db", 80)),
        ("[::1]:8080:[2001:db8::1]:80", Forward("::1", 8080, "2001:db8::1", 80)),
    ],
)
def test_forwards(text: str, forward: Forward) -> None:
    """They are read as ssh reads them: loopback unless an address is given, all addresses for an empty one or `*`."""
    assert Forward.parse(text) == forward


@pytest.mark.parametrize(
    "text", ["", "80", "80:db", "x:db:80", "80::80", "99999:db:80", "80:db:0", "80:db:99999", "/a:/b"]
)
def test_no_forwards(text: str) -> None:
    """Everything else is refused with the form that is expected."""
    with pytest.raises(InvalidInput, match="expected"):
        Forward.parse(text)


def test_socks() -> None:
    """SOCKS has no target."""
    assert Forward.parse("1080", socks=True) == Forward("localhost", 1080)
    assert Forward.parse("127.0.0.2:1080", socks=True) == Forward("127.0.0.2", 1080)
    for bad in ("", "x", "1:2:3", "99999"):
        with pytest.raises(InvalidInput, match="expected"):
            Forward.parse(bad, socks=True)


def test_options() -> None:
    """What this client has is taken; what changes nothing is ignored; the rest is an error, not a surprise."""
    made = Settings.parse(["-L", "1:a:2", "-R", "3:b:4", "-D", "5", "-A", "-N", "-n", "-t", "-C", "-q", "-v"])
    assert made.here == [Forward("localhost", 1, "a", 2)]
    assert made.there == [Forward("localhost", 3, "b", 4)]
    assert made.socks == [Forward("localhost", 5)]
    assert (made.agent, made.nothing, made.no_input, made.terminal) == (True, True, True, True)
    assert Settings.parse(["-T"]).terminal is False
    assert Settings.parse(["-r", "-p"]) == Settings(recurse=True, preserve=True)
    for option in ("-o", "-f", "-O"):
        with pytest.raises(InvalidInput, match=f"has no option {option}"):
            Settings.parse([option, "x"])
