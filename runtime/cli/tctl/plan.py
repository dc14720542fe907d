"""tctl plan and tctl apply: the documents of a folder, compared with the cluster, and made true in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli import console
from runtime.cli.tctl.connection import connecting, with_auth
from runtime.cli.tctl.output import JSON, TEXT, as_json
from runtime.cli.tctl.resources import follow_up
from runtime.core.errors import CompareFailed, InvalidInput, TeleportError

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.people_messages import Invite
    from runtime.cli.tctl.manifests import Loaded
    from runtime.reconcile import Done, Plan, Step

DIFFERENT = 2
"""Exit code of `tctl plan` when there is something to do."""

F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's parameters are click's business


def _sources(command: F) -> F:
    """Give a command the options that say what to read."""
    for option in (
        click.option(
            "--format",
            "shape",
            type=click.Choice([TEXT, JSON]),
            default=TEXT,
            show_default=True,
            help="Text for people, JSON for programs.",
        ),
        click.option("--prune", is_flag=True, help="Delete what tctl declared and the documents do not hold any more."),
        click.option(
            "--secrets",
            metavar="DIR",
            type=click.Path(),
            help="Folder of the Secrets that documents refer to, NAME.yaml each [default: beside the document].",
        ),
        click.option("-R", "--recursive", is_flag=True, help="Look into folders within folders, too."),
        click.option(
            "-f",
            "--filename",
            "more",
            metavar="FILE|DIR|-",
            multiple=True,
            type=click.Path(allow_dash=True),
            help="What to read; may be given several times.",
        ),
        click.argument("files", metavar="[FILE|DIR|-]...", nargs=-1, type=click.Path(allow_dash=True)),
    ):
        command = option(command)
    return command


@connecting
@click.command()
@_sources
def plan(
    files: tuple[str, ...], more: tuple[str, ...], *, recursive: bool, secrets: str | None, prune: bool, shape: str
) -> None:
    """Show what tctl apply would do.

    Exit code 0 means that there is no difference, 2 that there is one, 1 that it cannot be had or cannot be applied.

    \b
    Example:
      tctl plan -f cluster/ --prune
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from runtime.cli.tctl import plan_text

    loaded = _load(files, more, recursive=recursive, secrets=secrets)
    planned = with_auth(lambda auth: _planned(auth, loaded, prune=prune))
    console.out(plan_text.as_text(planned, _paint()) if shape == TEXT else as_json(plan_text.as_data(planned)))
    if planned.refused:
        raise _refused(planned, told=True)
    if planned.writes:
        click.get_current_context().exit(DIFFERENT)


@connecting
@click.command()
@_sources
@click.option("--yes", is_flag=True, help="Do not ask before something is deleted.")
def apply(
    files: tuple[str, ...],
    more: tuple[str, ...],
    *,
    recursive: bool,
    secrets: str | None,
    prune: bool,
    shape: str,
    yes: bool,
) -> None:
    """Make the cluster as documents say.

    They are what kubectl takes: files, folders or stdin (-), several documents and Lists in one, Secrets beside them.
    All are checked before the first is written. Nothing is written, either, when one is declared by somebody else
    (Kubernetes, teleport.yaml). At a terminal, deletions (--prune) are asked for. A new user is invited: its sign-up
    URL is shown this once.

    \b
    Example:
      tctl apply -f cluster/ --prune
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    loaded = _load(files, more, recursive=recursive, secrets=secrets)
    done: list[Done] = []
    invites: dict[str, Invite] = {}

    def tell(each: Done) -> None:
        done.append(each)
        if shape == TEXT:
            _tell(each, invites)

    planned = with_auth(lambda auth: _planned(auth, loaded, prune=prune))
    if planned.refused:
        raise _refused(planned, told=False)
    if not yes:
        _ask(planned)
    if shape == TEXT:
        _tell_unwritten(planned)
    try:
        if planned.writes:
            with_auth(lambda auth: _carry_out(auth, planned, tell, done, invites))
            if shape == TEXT:
                _tell_trust(done)
    finally:
        if shape == JSON:
            console.out(_as_json(done, invites))


def _tell_trust(done: list[Done]) -> None:
    """Tell of trusted clusters what became of them."""
    if not (names := [each.step.name for each in done if each.step.kind == "TrustedCluster" and each.step.resource]):
        return
    from runtime.cli.tctl.trusted import tell_trust

    with_auth(lambda auth: tell_trust(auth, names))


def _load(files: tuple[str, ...], more: tuple[str, ...], *, recursive: bool, secrets: str | None) -> Loaded:
    if not (sources := (*files, *more)):
        raise click.UsageError("name a FILE, a folder, or - for stdin.", click.get_current_context())
    from runtime.cli.tctl import manifests

    loaded = manifests.load(sources, recursive=recursive, secrets=secrets)
    for note in loaded.notes:
        console.say(note)
    return loaded


async def _planned(auth: AuthClient, loaded: Loaded, *, prune: bool) -> Plan:
    """Return what is to be done. Raises InvalidInput for a cluster whose truth is teleport.yaml."""
    from runtime.api import methods
    from runtime.api.documents import AuthDocuments, with_login
    from runtime.api.messages import Nothing
    from runtime.core.resources import Origin
    from runtime.reconcile import Owner, observe
    from runtime.reconcile import plan as planning

    pong = await auth.call(methods.PING, Nothing())
    if not pong.dynamic_config:
        raise InvalidInput(
            "this cluster is configured by teleport.yaml (dynamic_config: no), not by documents; nothing was written",
            hint="Set auth_service.dynamic_config: yes and restart auth, or change single resources with tctl create.",
        )
    desired = [await with_login(auth, each) for each in loaded.desired]
    # By auth's clock: tokens expire by it.
    return planning(desired, await observe(AuthDocuments(auth)), Owner(Origin.TCTL), now=pong.time, prune=prune)


async def _carry_out(
    auth: AuthClient, planned: Plan, tell: Callable[[Done], None], done: list[Done], invites: dict[str, Invite]
) -> None:
    from runtime.api.documents import AuthDocuments
    from runtime.core.clock import SystemClock
    from runtime.core.resources import Origin
    from runtime.reconcile import Owner
    from runtime.reconcile import apply as applying

    try:
        await applying(AuthDocuments(auth, invites), planned, Owner(Origin.TCTL), SystemClock(), tell=tell)
    except TeleportError as error:
        rest = [f"{step.kind} '{console.visible(step.name)}'" for step in planned.writes[len(done) :]]
        hint = f"Not known to be done: {', '.join(rest)}. Apply again: what is done stays done."
        raise type(error)(str(error), hint=" ".join(filter(None, (error.hint, hint)))) from error
    if refused := [each.step for each in done if not each.step.writes and each.step.hint]:
        raise CompareFailed(
            "\n".join(f"{step.kind} {step.name}: {step.message}" for step in refused), hint=refused[0].hint
        )


def _ask(planned: Plan) -> None:
    """Ask before anything is deleted, where somebody can answer. A script has said --prune, and is not asked."""
    from runtime.cli.tctl import plan_text
    from runtime.reconcile import Action

    if not planned.of(Action.DELETE) or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    console.out(plan_text.as_text(planned, _paint()))
    if not click.confirm("Do this?", err=True):
        console.say("Nothing was written.")
        click.get_current_context().exit(console.FAILED)


def _tell_unwritten(planned: Plan) -> None:
    """Tell that there is nothing to do, if that is so, and what is wrong with what stays as it is."""
    from runtime.cli.tctl import plan_text

    if not planned.writes:
        console.out(plan_text.summary(planned))
    for step in planned.steps:
        if not step.writes:
            _warn(step)


_DONE = {
    "create": "has been created",
    "update": "has been updated",
    "adopt": "has been taken over",
    "delete": "has been deleted",
}


def _tell(done: Done, invites: Mapping[str, Invite]) -> None:
    step = done.step
    named = f"{step.kind} '{console.visible(step.name)}'"
    console.out(f"{named} {_DONE.get(step.action, f'is left as it is: {console.visible(step.message)}')}")
    _warn(step)
    if step.resource is not None:
        invite = invites.get(step.name) if step.kind == "User" else None
        follow_up(step.resource, created=step.action == "create", value=done.value, invite=invite)


def _warn(step: Step) -> None:
    for finding in step.findings:
        console.say(f"warning: {step.kind} '{step.name}' {finding.message}")


def _refused(planned: Plan, *, told: bool) -> TeleportError:
    """Return the error of a plan that cannot be carried out; `told`: its steps are printed already."""
    refused = planned.refused
    if told:
        count = "one resource" if len(refused) == 1 else f"{len(refused)} resources"
        return CompareFailed(f"{count} cannot be applied", hint="The lines that start with ! say why.")
    lines = [f"{step.kind} {step.name}: {step.message}" for step in refused]
    return CompareFailed("\n".join(lines), hint=f"Nothing was written. {refused[0].hint}")


def _as_json(done: list[Done], invites: Mapping[str, Invite]) -> str:
    from runtime.cli.tctl.plan_text import step_data

    def data(each: Done) -> dict[str, object]:
        invite = invites.get(each.step.name) if each.step.kind == "User" else None
        told = {"value": each.value, "invite": invite.model_dump(mode="json") if invite else None}
        return {**step_data(each.step), **{name: value for name, value in told.items() if value}}

    return as_json({"done": [data(each) for each in done]})


def _paint() -> Callable[[str, str], str]:
    """Return what colours text, on a terminal whose owner has not asked for none (no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return lambda text, colour: text
    return lambda text, colour: click.style(text, fg=colour) if colour else text
