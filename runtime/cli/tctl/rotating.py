"""tctl auth rotate: new keys for the cluster's authorities, phase by phase, and how far that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting
from runtime.cli.tctl.output import Lifetime, format_option, plain, show
from runtime.core.durations import format_duration
from runtime.core.rotation import DEFAULT_GRACE, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from runtime.api.rotation_messages import RotationStatus

_BOTH = "all"


@connecting
@click.command()
@click.option(
    "--type",
    "kind",
    type=click.Choice(["user", "host", _BOTH]),
    default=_BOTH,
    show_default=True,
    help="Which authority: the one of people, the one of the cluster's services, or both.",
)
@click.option(
    "--phase", type=click.Choice([each.value for each in Phase]), help="Go to this phase of the rotation that runs."
)
@click.option("--manual", is_flag=True, help="Take each phase by hand: none comes by itself.")
@click.option(
    "--grace-period",
    "grace",
    type=Lifetime(),
    help="How long certificates of the old key stay good beside those of the new one; 0 to 720h"
    f" [default: {format_duration(DEFAULT_GRACE)}].",
)
@click.option(
    "--force", is_flag=True, help="Do not wait for members that have not followed: they may have to join anew."
)
@click.option("--status", is_flag=True, help="Change nothing; show phases, keys, and who has not followed.")
@format_option
def rotate(
    kind: str, phase: str | None, grace: timedelta | None, shape: str, *, manual: bool, force: bool, status: bool
) -> None:
    """Give the cluster's authorities new keys.

    Without --manual the phases follow each other by themselves over the grace period: init (the new key is trusted),
    update_clients and update_servers (it signs), standby (the old key is gone). Until then --phase=rollback leads back.
    Nobody is cut off, and nobody has to log in anew: in that time certificates of the old key end by themselves.

    \b
    Examples:
      tctl auth rotate                              begin, and go on by itself
      tctl auth rotate --manual                     begin, and then go on by hand:
      tctl auth rotate --phase=update_clients
      tctl auth rotate --status
      tctl auth rotate --grace-period=0 --force     the old key may be known to others
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from runtime.api import methods
    from runtime.api.messages import Nothing
    from runtime.api.rotation_messages import RotateRequest
    from runtime.core.resources.authority import AuthorityType

    if status and (phase or manual or grace is not None or force):
        raise click.UsageError("--status goes with --type and --format only: it changes nothing.")
    if grace is not None and phase not in (None, Phase.INIT):
        raise click.UsageError("--grace-period is set where a rotation begins, not in a later phase.")
    types = tuple(AuthorityType) if kind == _BOTH else (AuthorityType(kind),)
    if status:
        found = ask(methods.AUTHORITIES_ROTATION, Nothing())
    else:
        request = RotateRequest(
            types=types,
            phase=Phase(phase) if phase else None,
            manual=manual,
            grace=DEFAULT_GRACE if grace is None else grace,
            force=force,
        )
        found = ask(methods.AUTHORITIES_ROTATE, request)
    shown = [each for each in found.authorities if each.type in types]
    show(shape, lambda: rotation_text(shown), lambda: plain(shown))


def rotation_text(authorities: Sequence[RotationStatus]) -> str:
    """Return phases, keys and, if there are any, the members that have not followed, as tables."""
    phases = (
        (
            each.type.value,
            each.phase.value,
            _moment(each.changed),
            _next(each),
            f"{each.members - len(each.stragglers)} of {each.members}",
        )
        for each in authorities
    )
    keys = (
        (each.type.value, key.fingerprint, _moment(key.created), ",".join(key.signs) or "nothing")
        for each in authorities
        for key in each.keys
    )
    text = table(("CA Type", "Phase", "Since", "Next Phase", "Members That Follow"), phases)
    text += "\n" + table(("CA Type", "Trusted Key", "Created", "Signs"), keys)
    if waiting := list(_stragglers(authorities)):
        text += "\n" + table(("Not Followed Yet", "Node ID", "CA Type"), waiting)
    return text


def _next(status: RotationStatus) -> str:
    if status.next_phase is None:
        return ""
    if status.next_due is None:
        return f"{status.next_phase.value}, by hand"
    return f"{status.next_phase.value}, from {_moment(status.next_due)}"


def _stragglers(authorities: Sequence[RotationStatus]) -> Iterable[tuple[str, str, str]]:
    """Yield who has not followed, each member once, with the types of authority."""
    types: dict[tuple[str, str], list[str]] = {}
    for status in authorities:
        for each in status.stragglers:
            types.setdefault((f"{each.kind.value} {each.name}", each.id), []).append(status.type.value)
    return ((name, member, ",".join(kinds)) for (name, member), kinds in types.items())


def _moment(time: datetime | None) -> str:
    from datetime import UTC

    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time is not None else ""
