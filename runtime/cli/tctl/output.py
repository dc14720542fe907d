"""What several commands share: lifetimes, times and formats on the command line, and results as text, JSON or YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli import console

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from runtime.api.messages import Message

F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's parameters are click's business

TEXT, JSON, YAML = "text", "json", "yaml"


class Lifetime(click.ParamType["timedelta"]):
    """A duration such as 5m, 8h or 1h30m."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration, or fail as click does."""
        from runtime.core.durations import parse_duration
        from runtime.core.errors import InvalidInput

        try:
            return parse_duration(str(value))
        except InvalidInput as error:
            self.fail(error.in_full, param, ctx)


class Moment(click.ParamType["datetime"]):
    """A time in UTC: 2026-11-22, 2026-11-22T20:00, or a duration ago such as 2h."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, or fail as click does."""
        from datetime import UTC
        from datetime import datetime as at

        from runtime.core.clock import SystemClock
        from runtime.core.durations import parse_duration
        from runtime.core.errors import InvalidInput

        if isinstance(value, at):
            return value
        try:
            found = at.fromisoformat(str(value))
        except ValueError:
            try:
                return SystemClock().now() - parse_duration(str(value))
            except InvalidInput:
                self.fail(f"{value!r} is no time. Write 2026-11-22, 2026-11-22T20:00:00 or, for ago, 2h.", param, ctx)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


class Words(click.ParamType[tuple[str, ...]]):
    """A list with commas between its words."""

    name = "list"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words without blanks around them, or fail as click does."""
        if isinstance(value, tuple):
            return value
        words = tuple(word.strip() for word in str(value).split(","))
        if not all(words):
            self.fail(f"{value!r} has an empty word between two commas. Write A,B.", param, ctx)
        return words


def format_option(command: F) -> F:
    """Give a command the option --format, passed on as `shape`."""
    return click.option(
        "--format",
        "shape",
        type=click.Choice([TEXT, JSON, YAML]),
        default=TEXT,
        show_default=True,
        help="Text for people, JSON or YAML for programs.",
    )(command)


def lines_option(what: str) -> Callable[[F], F]:
    """Return what gives a command that prints as it goes the option --format; `what` json is of it, a line each."""
    return click.option(
        "--format",
        "shape",
        type=click.Choice([TEXT, JSON]),
        default=TEXT,
        show_default=True,
        help=f"Text for people; json: {what}",
    )


def show(shape: str, text: Callable[[], str], data: Callable[[], object]) -> None:
    """Print a result in the shape that was asked for."""
    if shape == TEXT:
        console.out(text())
    elif shape == JSON:
        console.out(as_json(data()))
    else:
        from runtime.core.yaml_marks import dump

        console.out(dump(data()))


def as_json(data: object) -> str:
    """Return JSON with nothing but ASCII in it: a terminal obeys none of it."""
    import json

    return json.dumps(data, indent=2)


def plain(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Return messages as plain data."""
    return [message.model_dump(mode="json") for message in messages]
