"""Joining the cluster and staying in it: a token buys an identity, the identity buys its own renewal."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from pydantic import BaseModel, ConfigDict

from runtime.api.messages import AuthorityKeys, JoinRequest, MemberCertificates, Membership, RenewRequest
from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.auth.authorities import LocalAuthorities
from runtime.auth.issuing import Issuer
from runtime.auth.presence import PresenceStore
from runtime.auth.tokens import JoinTokens
from runtime.backend.base import Backend
from runtime.core.callers import MEMBERS, Caller, CallerKind
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, NotFound
from runtime.core.keys import SECRETS
from runtime.pki.claims import MemberRole
from runtime.pki.trust import keys_of

logger = logging.getLogger(__name__)

MEMBER_TTL = CERTIFICATE_TTL
"""Lifetime of a member's certificates; it renews them long before (security: host certificates expire)."""


class _Record(BaseModel):
    """What is remembered of a member: what its token let it be, and the labels that it imposed."""

    model_config = ConfigDict(frozen=True)

    roles: tuple[CallerKind, ...]
    labels: dict[str, str] = {}
    joined: datetime


class Members:
    """Lets newcomers in and renews members. The id is chosen here: no newcomer can ask to be somebody else."""

    def __init__(
        self,
        *,
        backend: Backend,
        issuer: Issuer,
        tokens: JoinTokens,
        presence: PresenceStore,
        audit: Audit,
        now: Callable[[], datetime],
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._backend = backend
        self._issuer = issuer
        self._tokens = tokens
        self._presence = presence
        self._audit = audit
        self._now = now
        self._new_id = new_id

    async def join(self, caller: Caller, request: JoinRequest) -> Membership:
        """Make the newcomer a member in the roles it asks for. Raises AccessDenied, InvalidInput."""
        try:
            if not MEMBERS.issuperset(request.roles):
                raise AccessDenied("a token makes nodes, proxies and auth servers, nothing else")
            await self._check_names(caller, request.roles, (request.name, *request.advertised))
            token = await self._tokens.redeem(request.token.get_secret_value(), request.roles)
        except AccessDenied as error:
            logger.warning("refused %s to join as %s: %s", caller, ",".join(request.roles), error)
            self._audit.emit(EventType.JOIN_REFUSED, error=str(error), **_told(caller, request))
            raise
        member = str(self._new_id())
        membership = self.issue(
            member, request.roles, request.name, request.advertised, request.public_key, token.labels
        )
        record = _Record(roles=request.roles, labels=token.labels, joined=self._now())
        await self._backend.create(_key(member), record.model_dump_json().encode())
        self._audit.emit(EventType.MEMBER_JOINED, server_id=member, static=token.static, **_told(caller, request))
        return membership

    async def renew(self, caller: Caller, request: RenewRequest) -> Membership:
        """Return new certificates for the identity that the caller proved. Raises AccessDenied, InvalidInput."""
        labels = await self.imposed_labels(caller)
        await self._check_names(caller, (caller.kind,), (request.name, *request.advertised))
        return self.issue(caller.name, (caller.kind,), request.name, request.advertised, request.public_key, labels)

    async def imposed_labels(self, caller: Caller) -> dict[str, str]:
        """Return the labels that the member's token imposed; none for the roles that run beside auth."""
        try:
            item = await self._backend.get(_key(caller.name))
        except NotFound:
            return {}
        return _Record.model_validate_json(item.value).labels

    def local(self, role: CallerKind, name: str, advertised: tuple[str, ...], public_key: str) -> Membership:
        """Return a membership for a role that runs beside auth, in its process or on its machine, without a token."""
        return self.issue(str(self._new_id()), (role,), name, advertised, public_key, {})

    def issue(
        self,
        member: str,
        roles: Sequence[CallerKind],
        name: str,
        advertised: tuple[str, ...],
        public_key: str,
        labels: dict[str, str],
    ) -> Membership:
        """Return certificates of a member for each of its roles. Raises InvalidInput."""
        certificates, ends = [], []
        for role in roles:
            kind = MemberRole(role.value)
            called = self._issuer.member(member, kind, public_key, MEMBER_TTL)
            ends.append(called.valid_before)
            host = b""
            if role in MEMBERS:
                served = self._issuer.host(member, kind, name, advertised, public_key, MEMBER_TTL)
                ends.append(served.valid_before)
                host = served.line
            certificates.append(
                MemberCertificates(role=role, host=host.decode().strip(), member=called.line.decode().strip())
            )
        return Membership(
            id=uuid.UUID(member),
            certificates=tuple(certificates),
            expires=datetime.fromtimestamp(min(ends), UTC),
            authorities=public_keys(self._issuer.authorities),
            labels=labels,
        )

    async def _check_names(self, caller: Caller, roles: Sequence[CallerKind], names: Sequence[str]) -> None:
        """Keep a node from being certified under the name of another machine's proxy or auth server.

        Clients trust those names. A node on the machine of the proxy has its name by right.
        """
        if any(role is not CallerKind.NODE for role in roles) or ip_address(caller.address).is_loopback:
            return
        wanted = {name.lower() for name in names}
        for kind in (CallerKind.PROXY, CallerKind.AUTH):
            for entry in await self._presence.list(kind):
                host = entry.presence.addr.rpartition(":")[0].strip("[]")
                if entry.presence.name.lower() in wanted and host != caller.address:
                    raise AccessDenied(
                        f"the name {entry.presence.name} is taken by a {kind} of this cluster",
                        hint="Give the node another name: --nodename.",
                    )


def _told(caller: Caller, request: JoinRequest) -> dict[str, Field]:
    return {"addr.remote": caller.address, "name": request.name, "roles": [str(role) for role in request.roles]}


def public_keys(authorities: LocalAuthorities) -> tuple[AuthorityKeys, ...]:
    """Return what others should trust: both authorities with the keys of all generations, the signing one first."""
    found = []
    for authority in (authorities.user, authorities.host):
        signing = authority.signer.public.key.line
        others = [key.key.line for key in keys_of(authority.public) if key.key.line != signing]
        found.append(AuthorityKeys(cluster=authority.cluster, type=authority.type.value, keys=(signing, *others)))
    return tuple(found)


def _key(member: str) -> str:
    return f"{SECRETS}/member/{member}"
