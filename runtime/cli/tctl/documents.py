"""Resources between auth, files and the terminal. Imported when a command needs it: the models take a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import yaml

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.documents import write_document
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceDocument, ResourceQuery, ResourceRef
from runtime.cli.tables import table
from runtime.core.access import user_role
from runtime.core.durations import format_duration
from runtime.core.errors import NotFound
from runtime.core.guests import authority_role
from runtime.core.resources import (
    API_VERSION,
    DECLARED,
    Conditions,
    Resource,
    Role,
    Token,
    TrustedCluster,
    User,
    decode,
    dump,
    dump_all,
)
from runtime.reconcile import Desired


async def fetch(auth: AuthClient, kind: str, name: str, *, derived: bool) -> list[Resource]:
    """Return one resource, or all of a kind ordered by name.

    `derived` adds the roles that the logins of users and of trusted clusters make.

    Raises NotFound, and what auth raises.
    """
    if name and not (kind == "Role" and name.startswith(("user:", "ca:"))):
        return [_decoded(kind, await auth.call(methods.RESOURCES_GET, ResourceRef(kind=kind, name=name)))]
    found = await _listed(auth, kind)
    if kind == "Role" and derived:
        found += [role for user in await _listed(auth, "User") if isinstance(user, User) and (role := user_role(user))]
        clusters = (await auth.call(methods.TRUSTED_LIST, Nothing())).clusters
        found += [authority_role(peer.cluster, peer.allow_logins) for peer in clusters if peer.enabled]
    if name and not (found := [resource for resource in found if resource.name == name]):
        why = "no cluster of that name is trusted" if name.startswith("ca:") else "no user of that name has logins"
        raise NotFound(f"there is no role {name}: {why}", hint="See tctl get roles.")
    return sorted(found, key=lambda resource: resource.name)


async def write(auth: AuthClient, desired: Desired, *, force: bool) -> tuple[bool, str | None]:
    """Write a document, which without `force` must be new.

    Returns whether it was, and a token's value if one was made. Raises what auth raises.
    """
    revision, resource = 0, desired.resource
    if force:
        try:
            ref = ResourceRef(kind=resource.kind, name=resource.name)
            revision = (await auth.call(methods.RESOURCES_GET, ref)).revision
        except NotFound:
            pass
    return not revision, await write_document(auth, desired, revision=revision)


async def fetch_trust(auth: AuthClient) -> dict[str, str]:
    """Return in one word how it stands with each TrustedCluster. Raises what auth raises."""
    told = (await auth.call(methods.TRUSTED_STATUS, Nothing())).clusters
    return {each.name: each.reason for each in told}


def clusters_table(resources: Sequence[Resource], trust: Mapping[str, str]) -> str:
    """Return trusted clusters as a table, with how it stands with each."""
    header, row = _TABLES["TrustedCluster"]
    return table((*header, "Trust"), ((*row(each), trust.get(each.name, "Pending")) for each in resources))


def as_table(kind: str, resources: Sequence[Resource]) -> str:
    """Return resources of a kind as a table; roles as the manual's `tctl get roles` shows them."""
    header, row = _TABLES[kind]
    return table(header, (row(resource) for resource in resources))


def as_yaml(resources: Sequence[Resource]) -> str:
    """Return documents that `load` reads back."""
    return dump_all(resources) if resources else "# none\n"


def as_data(resources: Sequence[Resource]) -> dict[str, list[object]]:
    """Return a List of documents as plain data, which `load` reads back too."""
    items = [yaml.safe_load(dump(resource)) for resource in resources]
    return {"apiVersion": API_VERSION, "kind": "List", "items": items}  # type: ignore[dict-item]


async def _listed(auth: AuthClient, kind: str) -> list[Resource]:
    listed = await auth.call(methods.RESOURCES_LIST, ResourceQuery(kind=kind))
    return [_decoded(kind, document) for document in listed.resources]


def _decoded(kind: str, document: ResourceDocument) -> Resource:
    return decode(DECLARED[kind], document.document.encode())


# --- tables ------------------------------------------------------------------------------------------------------

R = TypeVar("R", bound=Resource)


def _role(role: Role) -> tuple[str, ...]:
    allow = role.spec.allow
    access = sorted({f"{what}:{verb}" for rule in allow.rules for what in rule.resources for verb in rule.verbs})
    return (
        role.name,
        ",".join(allow.logins),
        role.metadata.namespace or "default",
        _nodes(allow),
        ",".join(access),
    )


def _nodes(conditions: Conditions) -> str:
    """Return the nodes that a role allows: `<all nodes>`, or `env=staging|test,team=*`."""
    if conditions.node_labels.get("*") == ("*",):
        return "<all nodes>"
    return ",".join(f"{label}={'|'.join(values)}" for label, values in sorted(conditions.node_labels.items()))


def _user(user: User) -> tuple[str, ...]:
    return user.name, ",".join(user.spec.logins), ",".join(user.spec.roles), user.metadata.origin or ""


def _token(token: Token) -> tuple[str, ...]:
    spec = token.spec
    labels = ",".join(f"{key}={value}" for key, value in sorted(spec.labels.items()))
    return token.name, ",".join(spec.roles), format_duration(spec.ttl), str(spec.max_uses or "any"), labels


def _trusted_cluster(cluster: TrustedCluster) -> tuple[str, ...]:
    spec = cluster.spec
    roles = ",".join(f"{mapping.remote}:{'|'.join(mapping.local)}" for mapping in spec.role_map)
    return cluster.name, "yes" if spec.enabled else "no", spec.proxy.tunnel_addr, ",".join(spec.allow_logins), roles


def _of(model: type[R], row: Callable[[R], tuple[str, ...]]) -> Callable[[Resource], tuple[str, ...]]:
    def checked(resource: Resource) -> tuple[str, ...]:
        assert isinstance(resource, model)  # noqa: S101 - the table of a kind is asked for that kind only
        return row(resource)

    return checked


_TABLES: dict[str, tuple[tuple[str, ...], Callable[[Resource], tuple[str, ...]]]] = {
    "Role": (
        ("Role", "Allowed to login as", "Namespaces", "Node Labels", "Access to resources"),
        _of(Role, _role),
    ),
    "User": (("User", "Allowed to Login as", "Roles", "Origin"), _of(User, _user)),
    "Token": (("Token", "Roles", "Lifetime", "Uses", "Labels"), _of(Token, _token)),
    "TrustedCluster": (
        ("Cluster Name", "Enabled", "Tunnel Address", "Allowed Logins", "Role Map"),
        _of(TrustedCluster, _trusted_cluster),
    ),
}
