"""The tree of errors is the one its docstring draws."""

from __future__ import annotations

import inspect
import re

from runtime.core import errors


def test_the_docstring_draws_the_tree() -> None:
    """Each class stands in the drawing, as deep as it is derived, and nothing else does."""
    drawn = re.findall(r"^([\s│├└─]*)([A-Z]\w+)  ", errors.__doc__ or "", re.MULTILINE)
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]
    depths = {each.__name__: each.mro().index(errors.TeleportError) + 1 for each in classes}
    assert {name: len(branches.strip("\n")) // 4 for branches, name in drawn} == depths


def test_an_error_has_a_message_and_a_hint() -> None:
    """`str` is what happened, `hint` what to do next; the hint may be empty."""
    error = errors.NotFound("there is no user joe", hint="See `tctl users ls`.")
    assert (str(error), error.hint) == ("there is no user joe", "See `tctl users ls`.")
    assert errors.Unavailable("etcd does not answer").hint == ""


def test_a_kind_is_told_by_name_and_found_again() -> None:
    """Another process finds the kind by its name, a finer one as the nearest, and never a class that is no error."""

    class LockedOut(errors.AccessDenied):
        """Finer than what others know."""

    assert errors.kind_named(errors.name_of_kind(errors.InvalidResource("x"))) is errors.InvalidResource
    assert errors.kind_named(errors.name_of_kind(errors.InvalidSettings("x"))) is errors.InvalidInput
    assert errors.kind_named(errors.name_of_kind(LockedOut("x"))) is errors.AccessDenied
    assert errors.name_of_kind(errors.TeleportError("x")) == ""
    for stranger in ("", "SystemExit", "LockedOut", None, 7, ["NotFound"]):
        assert errors.kind_named(stranger) is errors.TeleportError
