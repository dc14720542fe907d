"""Times, limits and errors that every backend shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from runtime.backend.base import (
    MAX_VALUE_BYTES,
    Delete,
    Item,
    Put,
    already_exists,
    check_value,
    compare_failed,
    from_millis,
    not_found,
    to_millis,
)
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidValue, NotFound, TeleportError


@pytest.mark.parametrize(
    ("moment", "millis"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(2026, 3, 13, 12, 0, tzinfo=timezone(timedelta(hours=-3))), 1773414000000),
        (datetime.max.replace(tzinfo=UTC), 253402300799999),
    ],
)
def test_milliseconds_are_rounded_down_and_exact(moment: datetime, millis: int) -> None:
    """Without a float on the way, before 1970 and in any zone."""
    assert to_millis(moment) == millis
    assert timedelta(0) <= moment - from_millis(millis) < timedelta(milliseconds=1)
    assert from_millis(millis).tzinfo is UTC


def test_a_naive_moment_is_refused() -> None:
    """It would mean another time on another machine."""
    with pytest.raises(ValueError, match="aware"):
        to_millis(datetime(2026, 1, 1))  # noqa: DTZ001  # what is tested


def test_a_value_ends_at_the_limit() -> None:
    """The limit itself is allowed, one byte more is not; the message tells both numbers."""
    assert check_value(b"x" * MAX_VALUE_BYTES) == b"x" * MAX_VALUE_BYTES
    with pytest.raises(InvalidValue, match=f"{MAX_VALUE_BYTES + 1} bytes; {MAX_VALUE_BYTES} "):
        check_value(b"x" * (MAX_VALUE_BYTES + 1))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (not_found("resources/User/joe"), NotFound),
        (already_exists("resources/User/joe"), AlreadyExists),
        (compare_failed("resources/User/joe", 7), CompareFailed),
    ],
)
def test_a_refusal_names_the_key(error: TeleportError, kind: type[TeleportError]) -> None:
    """So that a log line tells which."""
    assert type(error) is kind
    assert "resources/User/joe" in str(error)


@pytest.mark.parametrize(
    "error", [not_found("secrets/s3cr3t"), already_exists("secrets/s3cr3t"), compare_failed("secrets/s3cr3t", 7)]
)
def test_a_refusal_does_not_name_a_secret(error: TeleportError) -> None:
    """The name below secrets/ may be the secret."""
    assert "s3cr3t" not in f"{error}{error.hint}"
    assert "secrets/" in str(error)


def test_an_event_has_the_revision_of_its_write() -> None:
    """Puts and deletes alike, for a watch to go on from."""
    assert Put(Item("resources/a", b"", 7)).revision == 7
    assert Delete("resources/a", 8).revision == 8
