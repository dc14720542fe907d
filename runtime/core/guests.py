"""People of a cluster that this one trusts: who they are here, and what they may do. Pure, and by default nothing.

    john of main             is the user `john@main`, which no user of this cluster can be called
    allowLogins              make the role `ca:main`, which every person of main has here; without them nobody has it
    a role of the person's   becomes the local roles of its mapping; one that no mapping names is ignored

Beyond what these say, a login has to stand in the person's certificate, as for everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied
from runtime.core.resources import Conditions, Options, Role, RoleMetadata, RoleSpec, Rule, RuleResource, User, Verb
from runtime.core.resources.user import UserMetadata, UserSpec

GUEST_RULES = (
    RuleResource.NODE,
    RuleResource.SESSION,
    RuleResource.TUNNEL,
    RuleResource.AUTH_SERVER,
    RuleResource.CERT_AUTHORITY,
)
"""What the role `ca:NAME` may read (manual, "Permissions with Trusted Clusters", `tctl get roles`)."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What this cluster lets the people of `cluster` do: the mapping of a TrustedCluster, or of teleport.yaml."""

    cluster: str
    role_map: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Their role, and the roles here that it becomes."""
    allow_logins: tuple[str, ...] = ()


def guest_name(user: str, cluster: str) -> str:
    """Return what a person of another cluster is called here. No user's own name has an `@`."""
    return f"{user}@{cluster}"


def authority_role(cluster: str, allow_logins: Sequence[str], *, max_ttl: timedelta = CERTIFICATE_TTL) -> Role:
    """Return the role `ca:NAME` that a trusted cluster's `allow_logins` make; derived, never stored.

    Like `user:NAME` it allows every node, as the manual's table says.
    """
    return Role(
        metadata=RoleMetadata(name=f"ca:{cluster}"),
        spec=RoleSpec(
            allow=Conditions(
                logins=tuple(allow_logins),
                node_labels={"*": ("*",)},
                rules=(Rule(resources=GUEST_RULES, verbs=(Verb.READ,)),),
            ),
            options=Options(max_session_ttl=max_ttl, forward_agent=True, port_forwarding=True),
        ),
    )


def mapped_roles(welcome: Welcome, remote: Sequence[str]) -> tuple[str, ...]:
    """Return the roles here that somebody with these roles there has, each once, in the order of the mapping."""
    found = [local for role, locals_ in welcome.role_map if role in remote for local in locals_]
    return tuple(dict.fromkeys(found))


def guest(
    user: str, remote: Sequence[str], welcome: Welcome, declared: Mapping[str, Role]
) -> tuple[User, Mapping[str, Role]]:
    """Return a person of another cluster as a user here, and the roles that there are for the decision.

    `remote` are the roles that the certificate tells. Both go into the functions of `runtime.core.access`: a role of
    the mapping that does not exist may be the one that denies, so they refuse as for any user. Raises AccessDenied for
    whom nothing is mapped.
    """
    name = guest_name(user, welcome.cluster)
    roles = mapped_roles(welcome, remote)
    known = dict(declared)
    if welcome.allow_logins:
        own = authority_role(welcome.cluster, welcome.allow_logins)
        known[own.name] = own
        roles = (own.name, *roles)
    if not roles:
        raise AccessDenied(
            f"nothing here is for {name}: this cluster maps no role and no login to people of {welcome.cluster}"
            + (f" with the roles {', '.join(sorted(remote)[:8])}" if remote else ""),
            hint="An administrator of this cluster can change roleMap or allowLogins of its TrustedCluster.",
        )
    # Not validated: its name is none that a document may have, which is what keeps it apart from every user's.
    person = User.model_construct(
        metadata=UserMetadata.model_construct(name=name), spec=UserSpec.model_construct(logins=(), roles=roles)
    )
    return person, known
