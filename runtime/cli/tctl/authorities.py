"""tctl auth: the cluster's authorities, and identities of administrators (manual, "Example Configuration")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli import console
from runtime.cli.tables import table
from runtime.cli.tctl.connection import ask, connecting, with_auth
from runtime.cli.tctl.output import Lifetime, format_option, show
from runtime.core import defaults
from runtime.core.durations import format_duration
from runtime.core.errors import AlreadyExists, InvalidInput, NotFound

if TYPE_CHECKING:
    from datetime import timedelta

    from runtime.api.client import AuthClient
    from runtime.api.cluster_messages import AuthorityKeys, Pong
    from runtime.api.member_messages import Membership
    from runtime.api.trust_messages import TrustedPeer
    from runtime.pki.keys import PrivateKey
    from runtime.pki.trust import AuthorityKey

F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's parameters are click's business


def _export_options(command: F) -> F:
    for option in (
        click.option("--fingerprint", metavar="SHA256:...", help="Only the key of this fingerprint (tctl auth ls)."),
        click.option("--compat", type=click.Choice(["1.0"]), help="As Teleport 1.0: all in the known_hosts format."),
        click.option("--type", "kind", type=click.Choice(["user", "host"]), help="Only the user CA or the host CA."),
    ):
        command = option(command)
    return command


@connecting
@click.group()
@_export_options
@click.pass_context
def auth(context: click.Context, kind: str | None, compat: str | None, fingerprint: str | None) -> None:
    """Certificate authorities and administrators.

    The options of export may stand before it too: tctl auth --type=host export.
    """
    context.meta[__name__] = {"kind": kind, "compat": compat, "fingerprint": fingerprint}
    given = [f"--{name}" for name, value in (("type", kind), ("compat", compat), ("fingerprint", fingerprint)) if value]
    if given and context.invoked_subcommand != "export":
        raise click.UsageError(f"{', '.join(given)} goes with tctl auth export only.", context)


@connecting
@auth.command()
@_export_options
@click.pass_context
def export(context: click.Context, /, **given: str | None) -> None:
    """Print the public keys of authorities.

    The host CA is a line for known_hosts, the user CA one for authorized_keys.
    """
    from runtime.api import methods
    from runtime.api.messages import Nothing
    from runtime.pki.export import export_authority

    before: dict[str, str | None] = context.meta[__name__]
    options = {name: value or before[name] for name, value in given.items()}
    authorities = ask(methods.AUTHORITIES, Nothing()).authorities
    keys = [
        key
        for key in _keys(authorities)
        if options["kind"] in (None, key.type.value) and options["fingerprint"] in (None, key.key.fingerprint)
    ]
    if not keys:
        raise NotFound("no authority of this cluster has such a key", hint="See tctl auth ls.")
    for key in keys:
        console.out(export_authority(key, compatible_with_1_0=options["compat"] is not None))


@connecting
@auth.command()
@format_option
def ls(shape: str) -> None:
    """List the keys of all authorities that are trusted here."""
    from runtime.api import methods
    from runtime.api.messages import Nothing

    async def work(client: AuthClient) -> tuple[tuple[AuthorityKeys, ...], tuple[TrustedPeer, ...]]:
        nothing = Nothing()
        own = await client.call(methods.AUTHORITIES, nothing)
        return own.authorities, (await client.call(methods.TRUSTED_LIST, nothing)).clusters

    authorities, peers = with_auth(work)
    others = [authority for peer in peers if peer.enabled for authority in _believed(peer)]
    keys = _keys((*authorities, *others))
    logins = {peer.cluster: peer.allow_logins for peer in peers}
    data: list[dict[str, object]] = [
        {
            "cluster": key.cluster,
            "type": key.type.value,
            "fingerprint": key.key.fingerprint,
            **({"allowed_logins": list(logins[key.cluster])} if key.cluster in logins else {}),
        }
        for key in keys
    ]
    data += [
        {"cluster": peer.cluster, "type": kind, "fingerprint": "", "ended": True}
        for peer in peers
        for kind in peer.ended
    ]
    show(
        shape,
        lambda: authorities_text(keys, authorities[0].cluster, logins) + "".join(map(_ended, peers)),
        lambda: data,
    )


@connecting
@auth.command()
@click.argument("cluster", metavar="CLUSTER")
def rm(cluster: str) -> None:
    """Trust a leaf no more that has joined with a token.

    Its tunnels end at once. It can join again with a new token. A root is what a TrustedCluster on the leaf says, and
    ends with that: tctl rm trusted_cluster/NAME.

    \b
    Example:
      tctl auth rm cluster-b
    """  # noqa: D301 - \b is click's mark for lines that stay as they are
    from runtime.api import methods
    from runtime.api.trust_messages import ClusterName

    ask(methods.TRUSTED_FORGET, ClusterName(name=cluster))
    console.out(f"Cluster '{console.visible(cluster)}' is trusted no more")


@connecting
@auth.command()
@click.option("--out", "file", metavar="FILE", required=True, help="Where to write the identity; only you can read it.")
@click.option(
    "--ttl",
    type=Lifetime(),
    default=format_duration(defaults.CERTIFICATE_TTL),
    show_default=True,
    help="How long the identity is good for, 1m to 30h; it is never renewed.",
)
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def sign(file: str, ttl: timedelta, *, force: bool) -> None:
    """Make an administrator's identity.

    It is written to --out, for use on another machine. There: tctl --identity=FILE --auth-server=HOST:3025 ...
    """
    path = Path(file)
    if not force and path.exists():
        raise AlreadyExists(f"{path} is there already", hint="Choose another name, or replace it with --force.")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent}", hint="Make it first, readable by you only.")
    key, membership, pong = _signed(ttl)
    from runtime.service.identity import identities_of, write_private

    (identity,) = identities_of(membership, key.to_openssh(), pong.cluster).values()
    try:
        write_private(path, identity.model_dump_json().encode() + b"\n")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", hint="Choose another place.") from error
    console.say(f"{path} is an administrator of {pong.cluster} until {identity.expires:%Y-%m-%d %H:%M} UTC: guard it")


def _signed(ttl: timedelta) -> tuple[PrivateKey, Membership, Pong]:
    """Return a new key, made here and never sent, and what auth certifies it as."""
    from runtime.api import methods
    from runtime.api.member_messages import AdminRequest
    from runtime.api.messages import Nothing
    from runtime.pki.keys import generate_key

    key = generate_key()

    async def work(client: AuthClient) -> tuple[Membership, Pong]:
        request = AdminRequest(ttl=ttl, public_key=key.public.line)
        return await client.call(methods.ADMINS_SIGN, request), await client.call(methods.PING, Nothing())

    return key, *with_auth(work)


def authorities_text(
    keys: list[AuthorityKey], cluster: str, allow_logins: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> str:
    """Return the manual's two tables: the keys of `cluster`, and those of the clusters that it trusts.

    `allow_logins` are the logins that users of each of those may use here.
    """
    own = ((key.type.value, key.key.fingerprint) for key in keys if key.cluster == cluster)
    trusted = (
        (
            key.cluster,
            key.type.value,
            key.key.fingerprint,
            ",".join(allow_logins.get(key.cluster, ())) if key.type.value == "user" else "N/A",
        )
        for key in keys
        if key.cluster != cluster
    )
    return (
        f"CA keys for the local cluster {console.visible(cluster)}:\n\n"
        + table(("CA Type", "Fingerprint"), own)
        + "\nCA Keys for Trusted Clusters:\n\n"
        + table(("Cluster Name", "CA Type", "Fingerprint", "Allowed Logins"), trusted)
    )


def _believed(peer: TrustedPeer) -> Iterable[AuthorityKeys]:
    """Yield the authorities of another cluster that are believed."""
    from runtime.api.cluster_messages import AuthorityKeys

    if peer.user_keys:
        yield AuthorityKeys(cluster=peer.cluster, type="user", keys=peer.user_keys)
    if peer.host_keys:
        yield AuthorityKeys(cluster=peer.cluster, type="host", keys=peer.host_keys)


def _ended(peer: TrustedPeer) -> str:
    """Return what there is to say of a cluster whose authorities have ended; nothing of others."""
    if not peer.ended:
        return ""
    name = console.visible(peer.cluster)
    which = " and ".join(f"its {kind} CA" for kind in sorted(peer.ended))
    have = "have" if len(peer.ended) > 1 else "has"
    anew = (
        f"put a new token or the new keys of {name} into the Secret of its TrustedCluster"
        if peer.is_root
        else f"tctl auth rm {name}, then let it join with a new token"
    )
    return (
        f"\n{name}: {which} {have} ended in an emergency, and no key leads on from there. To trust it again: {anew};"
        " where it stands in teleport.yaml, export its keys anew.\n"
    )


def _keys(authorities: Iterable[AuthorityKeys]) -> list[AuthorityKey]:
    from runtime.core.resources.authority import AuthorityType
    from runtime.pki.keys import parse_public_key
    from runtime.pki.trust import AuthorityKey

    return [
        AuthorityKey(AuthorityType(authority.type), authority.cluster, parse_public_key(key))
        for authority in authorities
        for key in authority.keys
    ]
