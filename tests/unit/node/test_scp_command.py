"""What is taken for a request of scp's, and what for a command of the shell's."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.node.copying.command import ScpRequest, Word, parse_scp
from runtime.node.transfer import copy_of_command

GRANT = Grant("joe", ("dev",), False, False, True, 10, None)
NO_COPY = replace(GRANT, file_copy=False)


def sink(*words: Word, **options: bool) -> ScpRequest:
    """Return a request to send to us."""
    return ScpRequest(True, words, **options)


def source(*words: Word, **options: bool) -> ScpRequest:
    """Return a request to get from us."""
    return ScpRequest(False, words, **options)


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("scp -t .", sink(Word("."))),
        ("scp -f a", source(Word("a"))),
        ("scp -v -r -p -d -t /tmp/x", sink(Word("/tmp/x"), recursive=True, preserve=True, into_directory=True)),
        ("scp -r -f dir", source(Word("dir"), recursive=True)),
        ("scp -p -f -- -x", source(Word("-x"), preserve=True)),
        ("scp -t -- -", sink(Word("-"))),
        # other clients: libssh2, libssh, JSch
        ("scp -pt 'a b'", sink(Word("a b"), preserve=True)),
        ("scp -t -r dir", sink(Word("dir"), recursive=True)),
        ("scp -q -t x", sink(Word("x"))),
        ("  scp  -t\tx ", sink(Word("x"))),
        # what the person quoted for the far side
        ("scp -f 'a b'", source(Word("a b"))),
        ('scp -f "a b"', source(Word("a b"))),
        ("scp -f a\\ b", source(Word("a b"))),
        ("scp -f a b", source(Word("a"), Word("b"))),
        ("scp -f 'it'\\''s'", source(Word("it's"))),
        ('scp -f "a\\"b\\\\c\\d"', source(Word('a"b\\c\\d'))),
        ("scp -f '$HOME' '`x`' ';'", source(Word("$HOME"), Word("`x`"), Word(";"))),
        ("scp -f \\$x\\;y", source(Word("$x;y"))),
        ("scp -f ''", source(Word(""))),
        # patterns; what is quoted in one stands for itself
        ("scp -f dir/*.txt", source(Word("dir/*.txt", "dir/*.txt"))),
        ("scp -f 'a*'?", source(Word("a*?", "a[*]?"))),
        ("scp -f '*'", source(Word("*"))),
        ("scp -f \\[x\\]", source(Word("[x]"))),
        ("scp -f [ab]", source(Word("[ab]", "[ab]"))),
        # homes
        ("scp -f ~", source(Word("", "", "~"))),
        ("scp -f ~/a", source(Word("/a", "", "~"))),
        ("scp -f ~joe/*", source(Word("/*", "/*", "~joe"))),
        ("scp -f '~'/a", source(Word("~/a"))),
        ("scp -f a~", source(Word("a~"))),
        # braces that no shell expands, and a # within a word
        ("scp -f {a} a#b '{a,b}'", source(Word("{a}"), Word("a#b"), Word("{a,b}"))),
        ("scp -t caf\udce9", sink(Word("caf\udce9"))),
    ],
)
def test_what_scp_sends(command: str, request_: ScpRequest) -> None:
    """OpenSSH's and other clients' commands, with the quotes that people add for the far side."""
    assert parse_scp(command) == request_


@pytest.mark.parametrize(
    "command",
    [
        "",
        "scp",
        "scp a host:b",
        "scp -r a host:b",
        "scp -i key -t x",
        "scpx -t x",
        "/usr/bin/scp -t x",
        "scp.real -t x",
        "echo scp -t x",
        "true; scp -t x",
        "SCP -t x",
        "scp -3 a:b c:d",
    ],
)
def test_what_is_the_shells(command: str) -> None:
    """Every other command, also one in which scp occurs."""
    assert parse_scp(command) is None


@pytest.mark.parametrize(
    "path",
    [
        *("$(touch x)", "`touch x`", "a;touch x", "a|b", "a&", "a>b", "a<b", "(a)", "$HOME/x", "a\ntouch x", "a\rb"),
        *('"$(x)"', '"`x`"', '"$HOME"', "{a,b}", "{1..3}", "a #b", "\\\nx", "x\\", "a\0b", "'a\0b'", "~$(x)"),
    ],
)
@pytest.mark.parametrize("direction", ["-t", "-f", "-r -p -t --"])
def test_what_only_a_shell_understands_is_refused(direction: str, path: str) -> None:
    """A name with a command in it is neither run nor taken for something else (CVE-2020-15778)."""
    with pytest.raises(InvalidInput, match=r"only a shell understands|not closed"):
        parse_scp(f"scp {direction} {path}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("scp -t", "there is no path"),
        ("scp -t --", "there is no path"),
        ("scp -t a b", "ambiguous target"),
        ("scp -t -f a", "exclude each other"),
        ("scp -t -x", "unknown option '-x'"),
        ("scp -f -l 100 x", "unknown option '-l'"),
        ("scp -f 'a", "not closed"),
        ('scp -f "a', "not closed"),
    ],
)
def test_what_scp_would_not_send(command: str, message: str) -> None:
    """It is told what is wrong, and goes to no shell."""
    with pytest.raises(InvalidInput, match=message):
        parse_scp(command)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_name_passes_when_it_is_quoted(name: str) -> None:
    """Single quotes keep every name as it is, whatever is in it."""
    quoted = "'" + name.replace("'", "'\\''") + "'"
    assert parse_scp(f"scp -t -- {quoted}") == sink(Word(name))


@given(st.text(alphabet="abc/ '\"\\$`;*?[]{}~#\n\t|&<>()!.,-"))
def test_no_line_leads_to_anything_but_words_or_a_refusal(line: str) -> None:
    """Whatever follows `scp -f`, it is a request or refused: it is never handed to a shell."""
    with suppress(InvalidInput):
        assert parse_scp(f"scp -f {line}") is not None


@pytest.mark.parametrize(
    "part", ["a", "{", "{,", "{a,", "{..", "'", "''", '""', "\\\\", " ", " a", "~", "*", "[", "/", "-v ", "a/"]
)
def test_a_long_command_takes_no_long_time(part: str) -> None:
    """The node's event loop reads what a client sends, up to a packet: no length of it may hold others up."""
    begun = time.process_time()
    for command in (f"scp -f {part * 130_000}", f"scp {part * 130_000}", f"{part * 130_000}scp -t x"):
        with suppress(InvalidInput, AccessDenied):
            copy_of_command(command[:260_000], NO_COPY)
        with suppress(InvalidInput):
            copy_of_command(command[:260_000], GRANT)
    assert time.process_time() - begun < 5
