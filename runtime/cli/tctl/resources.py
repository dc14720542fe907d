"""tctl get, create and rm: the documents of users, roles, tokens and trusted clusters (docs/resources.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from runtime.cli import console
from runtime.cli.tctl.connection import connecting, with_auth
from runtime.cli.tctl.output import JSON, TEXT, YAML, as_json
from runtime.cli.tctl.users import invite_text
from runtime.core.errors import InvalidInput, TeleportError

if TYPE_CHECKING:
    from runtime.api.client import AuthClient
    from runtime.api.people_messages import Invite
    from runtime.core.resources import Resource

KINDS = {
    "users": "User",
    "roles": "Role",
    "tokens": "Token",
    "trusted_clusters": "TrustedCluster",
}
"""What a kind is called on the command line, and in documents."""
_SHORT = {"tuser": "User", "trole": "Role", "ttoken": "Token", "tcluster": "TrustedCluster"}
"""The short names that kubectl knows them by."""


class Reference(click.ParamType[tuple[str, str]]):
    """KIND, or KIND/NAME; the kind in singular or plural, as kubectl or documents write it."""

    name = "kind[/name]"

    def __init__(self, *, named: bool) -> None:
        self._named = named

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the kind as documents write it, and the name ("" for none), or fail as click does."""
        if isinstance(value, tuple):
            return value
        written, slash, name = str(value).partition("/")
        kind = _kind(written)
        if kind is None:
            from runtime.core.resources.explain import nearest

            self.fail(
                f"there is no kind {console.visible(written)!r}, only {', '.join(KINDS)}{nearest(written, KINDS)}",
                param,
                ctx,
            )
        if (slash or self._named) and not name:
            self.fail(f"expected {written}/NAME.", param, ctx)
        return kind, name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Offer the kinds."""
        return [CompletionItem(kind) for kind in KINDS if kind.startswith(incomplete)]


@connecting
@click.command()
@click.argument("reference", metavar="KIND[/NAME]", type=Reference(named=False))
@click.option(
    "--format",
    "shape",
    type=click.Choice([TEXT, JSON, YAML]),
    default=TEXT,
    show_default=True,
    help="A table, or documents as JSON or YAML.",
)
def get(reference: tuple[str, str], shape: str) -> None:
    """Show users, roles, tokens or trusted_clusters.

    The table of roles also has those that the logins of users make (user:NAME), and those allowed to the users of
    trusted clusters (ca:NAME). JSON and YAML hold what tctl create takes back; a role user:NAME or ca:NAME is in them
    only when it is asked for by name.
    """
    from runtime.cli.tctl import documents

    kind, name = reference
    found = with_auth(lambda auth: documents.fetch(auth, kind, name, derived=bool(name) or shape == TEXT))
    if shape == TEXT and kind == "TrustedCluster":
        console.out(documents.clusters_table(found, with_auth(documents.fetch_trust)))
    elif shape == TEXT:
        console.out(documents.as_table(kind, found))
    elif shape == JSON:
        console.out(as_json(documents.as_data(found) if not name else documents.as_data(found)["items"][0]))
    else:
        console.out(documents.as_yaml(found))


@connecting
@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(allow_dash=True))
@click.option(
    "-f",
    "--filename",
    "more",
    metavar="FILE",
    multiple=True,
    type=click.Path(allow_dash=True),
    help="A file or folder; may be given several times.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there already.")
def create(files: tuple[str, ...], more: tuple[str, ...], *, force: bool) -> None:
    """Create resources from documents.

    They are read from FILEs, from the .yaml, .yml and .json files of folders, or from stdin (-). All documents are
    checked before the first is written. The value of a token is read from its Secret, if that is among them or in a
    file NAME.yaml beside it; else one is made, and shown this once. A new user is invited, and its sign-up URL shown.
    tctl apply also changes what is there already.
    """
    if not (sources := (*files, *more)):
        raise click.UsageError("name a FILE, a folder, or - for stdin.", click.get_current_context())
    from runtime.api.documents import invite_new, with_login
    from runtime.cli.tctl import documents, manifests
    from runtime.cli.tctl.trusted import tell_trust

    loaded = manifests.load(sources)
    for note in loaded.notes:
        console.say(note)

    async def work(auth: AuthClient) -> None:
        for place, document in enumerate(loaded.desired):
            resource = document.resource
            try:
                desired = await with_login(auth, document)
                created, value = await documents.write(auth, desired, force=force)
            except TeleportError as error:
                rest = [each.resource for each in loaded.desired[place + 1 :]]
                raise type(error)(str(error), hint=_and_now(error, rest)) from error
            console.out(f"{_named(resource)} has been {'created' if created else 'updated'}")
            invite = await invite_new(auth, resource) if created else None
            follow_up(resource, created=created, value=value, invite=invite)
        clusters = [each.resource.name for each in loaded.desired if each.resource.kind == "TrustedCluster"]
        await tell_trust(auth, clusters, missing=True)

    with_auth(work)


@connecting
@click.command("rm")
@click.argument("references", metavar="KIND/NAME...", nargs=-1, required=True, type=Reference(named=True))
def remove(references: tuple[tuple[str, str], ...]) -> None:
    """Delete resources, such as role/dev."""
    from runtime.api import methods
    from runtime.api.resource_messages import ResourceRef

    async def work(auth: AuthClient) -> None:
        for kind, name in references:
            if kind == "Role" and name.startswith("user:"):
                user = name.removeprefix("user:")
                raise InvalidInput(
                    f"the role {name} is made by the logins of user {user}",
                    hint="Change the user's document, or delete the user.",
                )
            if kind == "Role" and name.startswith("ca:"):
                raise InvalidInput(
                    f"the role {name} is made by the logins that are allowed to users of that cluster",
                    hint="Change allowLogins of its TrustedCluster, or allow_logins in teleport.yaml.",
                )
            await auth.call(methods.RESOURCES_REMOVE, ResourceRef(kind=kind, name=name))
            console.out(f"{kind} '{console.visible(name)}' has been deleted")

    with_auth(work)


def _kind(written: str) -> str | None:
    """Return the kind that somebody means: `role`, `Roles`, `trusted_cluster`, `trustedclusters`, `trole`."""
    plain = written.lower().replace("_", "").replace("-", "")
    known: dict[str, str] = {**_SHORT, **{kind.lower(): kind for kind in KINDS.values()}}
    return known.get(plain) or known.get(plain.removesuffix("s"))


def follow_up(resource: Resource, *, created: bool, value: str | None, invite: Invite | None) -> None:
    """Tell what a person needs after a resource was written: a token's new value, or how a user gets in."""
    from runtime.core.defaults import SIGNUP_TTL
    from runtime.core.resources import User

    if value is not None:
        console.out(f"  its value, which is shown only now: {console.visible(value)}")
    if not created or not isinstance(resource, User) or resource.spec.credentials_secret_ref is not None:
        return
    if invite is not None:
        console.out(invite_text(invite, resource.spec.invite.ttl if resource.spec.invite else SIGNUP_TTL))
    else:
        console.say(f"{resource.name} has no way to log in yet: tctl users reset {resource.name} invites it")


def _named(resource: Resource) -> str:
    return f"{resource.kind} '{resource.name}'"


def _and_now(error: TeleportError, rest: list[Resource]) -> str:
    """Return the error's hint, and what was not reached because of it."""
    left = f"Not reached: {', '.join(map(_named, rest))}." if rest else ""
    return " ".join(filter(None, (error.hint, left)))
