"""YAML as Go reads it, with lines, and bounded."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core import yaml_marks
from runtime.core.errors import InvalidInput, InvalidSettings
from runtime.core.yaml_marks import load, show_path


def value(text: str) -> object:
    """Return the data of a text of one document."""
    (document,) = load(text, source="f.yaml")
    return document.data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("12", 12),
        ("-12", -12),
        ("0x1F", 31),
        ("017", 15),
        ("0o17", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("'yes'", "yes"),
        ('"12"', "12"),
        ("!!str 12", "12"),
        ("10:30", "10:30"),
        ("2026-01-02", "2026-01-02"),
        ("=", "="),
        ("y", "y"),
        ("0x", "0x"),
        ("1h", "1h"),
        ("|\n a\n b\n", "a\nb\n"),
        ("{a: [1, {b: null}]}", {"a": [1, {"b": None}]}),
        ('{"a":\t"\\u0041"}', {"a": "A"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("<<: [{p: 1}, {p: 2, q: 2}]", {"p": 1, "q": 2}),
        ("'<<': 1", {"<<": 1}),
    ],
)
def test_what_is_read(text: str, data: object) -> None:
    """Scalars are those of Go's YAML: no dates and no numbers in base 60; merges and aliases work."""
    found = value(text)
    assert (found, type(found)) == (data, type(data))


def test_several_documents() -> None:
    """Documents keep their order and count; blanks and comments are none, and an empty one is None."""
    assert load("# nothing\n\n", source="f") == []
    documents = load("---\n---\na: 1\n---\nb\n", source="f")
    assert [(each.index, each.data) for each in documents] == [(1, None), (2, {"a": 1}), (3, "b")]
    assert documents[0] == load("---", source="f")[0]


def test_lines() -> None:
    """Each key and item has its line, what is not there that of what is around it, and a scalar its own words."""
    (document,) = load("# c\na:\n  b:\n    - 1\n    - 8e3\nc: &x {d: yes}\ne: *x\n", source="f")
    assert document.line_of(("a",)) == 2
    assert document.line_of(("a", "b", 1)) == 5
    assert document.line_of(("a", "missing", 7)) == 2
    assert document.line_of(("e", "d")) == 7
    assert document.line_of() == 2
    assert document.text_of(("a", "b", 1)) == "8e3"
    assert document.text_of(("c", "d")) == "yes"
    assert document.text_of(("a",)) is None
    assert document.text_of(("missing",)) is None


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a:\n\tb: 1", 2, "is indented with a tab"),
        ("a: b\n \tc: d", 2, "is indented with a tab"),
        ("a: b: c", 1, "is not YAML"),
        ("x: 1\na: 'x", 2, "is not YAML"),
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is there twice"),
        ("1: x", 1, "the key 1 is not text"),
        ("on: x", 1, "the key on is not text"),
        ("? [a]\n: b", 1, "a key is text"),
        ("a: *b", 1, r"an alias \(\*\) stands for nothing"),
        ("a: &b [*b]", 1, r"an alias \(\*\) stands for nothing"),
        ("--- &x a\n--- *x", 2, r"an alias \(\*\) stands for nothing"),
        ("a: !!python/name:os.system x", 1, "tags are not understood"),
        ("a: !!set {x}", 1, "tags are not understood"),
        ("a: !mine x", 1, "tags are not understood"),
        ("<<: 3", 1, "merges mappings only"),
        ("a: 1\nb: \x00", 2, r"U\+0000"),
        ("a: \ud800", 1, r"U\+D800"),
        ("a: " + "9" * 5000, 1, "number of 5000 digits"),
    ],
)
def test_what_is_refused(text: str, line: int, what: str) -> None:
    """The error names the source and the line, and is of the class that the caller wants."""
    with pytest.raises(InvalidSettings, match=what) as caught:
        load(text, source="teleport.yaml", raises=InvalidSettings)
    assert str(caught.value).startswith(f"teleport.yaml:{line}: ")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "a:\n" + " [" * 60], ids=len)
def test_depth_is_bounded(text: str) -> None:
    """A text of brackets is refused; PyYAML's own loader ends the process there."""
    with pytest.raises(InvalidInput, match="nested deeper than 50 levels"):
        load(text, source="f")
    assert load("[" * 50 + "]" * 50, source="f")


def test_aliases_are_bounded() -> None:
    """Nine to the ninth values in ten lines are refused at once; honest repetition is not."""
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n"
    for name, inner in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{name}: &{name} [{','.join([f'*{inner}'] * 9)}]\n"
    with pytest.raises(InvalidInput, match="aliases repeat more than 10,000 values"):
        load(bomb, source="f")
    assert load("a: &a [1, 2]\n" + "".join(f"b{n}: *a\n" for n in range(1000)), source="f")


def test_size_is_bounded() -> None:
    """A text above the limit is not parsed."""
    with pytest.raises(InvalidInput, match=r"f has 4,194,305 characters; 4,194,304 is the most"):
        load("#" * (yaml_marks.MAX_TEXT_CHARACTERS + 1), source="f")


def test_paths_are_shown_as_people_write_them() -> None:
    """Words by dots, places in brackets, and what is no word quoted and escaped."""
    assert show_path(("spec", "allow", "logins", 1)) == "spec.allow.logins[1]"
    assert show_path(("a", "b c", "\x1b")) == 'a["b c"]["\\x1b"]'
    assert show_path(()) == "the document"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab1yesno~<=:# '\"", max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain)
def test_there_and_back(data: object) -> None:
    """What is dumped is loaded as it was, whatever text looks like: numbers, booleans, merges, comments."""
    assert value(yaml_marks.dump({"data": data})) == {"data": data}


@given(
    st.sampled_from(
        ["1e3", "0o17", "yes", "~", "", "1_0", "0x1", ".5", "<<", "=", "10:30", "2026-01-02", "- a", "a: b"]
    )
)
def test_text_that_looks_like_something_else(text: str) -> None:
    """Text stays text, as a value and as a key."""
    assert value(yaml_marks.dump({text: [text]})) == {text: [text]}


@given(st.text("[]{}-:?&*!|>'\"%@`#,\n\t ~a1<", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but InvalidInput."""
    with contextlib.suppress(InvalidInput):
        assert isinstance(load(text, source="f"), list)
