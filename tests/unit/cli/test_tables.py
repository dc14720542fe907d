"""Tables, against those of the manual."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.tables import table

TOKENS = """\
Token                                Role       Expiry Time (UTC)
-----                                ----       -----------------
eoKoh0caiw6weoGupahgh6Wuo7jaTee2     Proxy      never
696c0471453e75882ff70a761c1a8bfa     Node       17 May 16 03:51 UTC
6fc5545ab78c2ea978caabef9dbd08a5     Signup     17 May 16 04:24 UTC
"""


def test_the_manuals_table() -> None:
    """The table of `tctl tokens ls` is the manual's, blank for blank ("Revoking Invitations")."""
    rows = [line.split("     ") for line in TOKENS.splitlines()[2:]]
    header = ("Token", "Role", "Expiry Time (UTC)")
    assert table(header, [[cell.strip() for cell in row if cell.strip()] for row in rows]) == TOKENS


def test_without_rows() -> None:
    """An empty table is its header."""
    assert table(("A", "Long title"), []) == "A     Long title\n-     ----------\n"


def test_an_empty_cell_keeps_its_column() -> None:
    """The cells to the right of an empty one stay where they belong, and no line ends in blanks."""
    assert table(("A", "B", "C"), [("", "b", ""), ("a", "", "c")]).splitlines()[2:] == ["      b", "a           c"]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_what_is_in_a_cell_stays_in_it(rows: list[tuple[str, str]]) -> None:
    """Whatever a node or a user calls itself: a row is one line, and no terminal obeys it."""
    shown = table(("A", "B"), rows)
    assert shown.count("\n") == len(rows) + 2
    assert len(shown.splitlines()) == len(rows) + 2
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown.replace("\n", ""))


def test_escapes_count_as_what_is_shown() -> None:
    """A column is as wide as what is shown of its cells, not as what was in them."""
    assert table(("A", "B"), [("\x1b", "b"), ("a", "b")]).splitlines()[2:] == ["\\x1b     b", "a        b"]
