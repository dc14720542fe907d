"""Joining the cluster and staying in it: a token buys an identity, the identity buys its own renewal.

A member's names are settled when it joins and remembered. Whatever it says later, it is not certified, and not listed,
under a name that it did not join with: a node that was taken over cannot become another one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from pydantic import BaseModel, ConfigDict

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.member_messages import AdminRequest, JoinRequest, MemberCertificates, Membership, RenewRequest
from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.auth.attempts import MAX_JOIN_FAILURES, Attempts, LockedOut, source
from runtime.auth.authorities import Authorities
from runtime.auth.authority_record import LocalAuthority
from runtime.auth.issuing import Issuer
from runtime.auth.presence import PresenceStore
from runtime.auth.tokens import JoinToken, JoinTokens
from runtime.backend.base import Backend
from runtime.core.callers import MEMBERS, Caller, CallerKind
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, NotFound
from runtime.core.keys import SECRETS
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.keys import parse_public_key
from runtime.pki.trust import keys_of

logger = logging.getLogger(__name__)

MEMBER_TTL = CERTIFICATE_TTL
"""Lifetime of a member's certificates; it renews them long before (security: host certificates expire)."""


RECORD_KEPT = timedelta(days=1)
"""How long an administrator's record outlives its certificate: no clock is further off than that."""


class _Record(BaseModel):
    """What is remembered of a member: what its token let it be, its names, and the labels that the token imposed."""

    model_config = ConfigDict(frozen=True)

    roles: tuple[CallerKind, ...]
    name: str
    advertised: tuple[str, ...] = ()
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
        attempts: Attempts,
        audit: Audit,
        now: Callable[[], datetime],
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._backend = backend
        self._issuer = issuer
        self._tokens = tokens
        self._presence = presence
        self._attempts = attempts
        self._audit = audit
        self._now = now
        self._new_id = new_id

    async def join(self, caller: Caller, request: JoinRequest) -> Membership:
        """Make the newcomer a member in the roles it asks for. Raises AccessDenied, InvalidInput.

        The token is looked at last: a request that cannot be granted does not use it up.
        """
        member = str(self._new_id())
        try:
            if not MEMBERS.issuperset(request.roles):
                raise AccessDenied("a token makes nodes, proxies and auth servers, nothing else")
            await self._check_names(caller, request.roles, (request.name, *request.advertised))
            self._check_claims(member, request)
            token = await self._redeem(caller, request)
        except AccessDenied as error:
            logger.warning("refused %s to join as %s: %s", caller, ",".join(request.roles), error)
            self._audit.emit(EventType.JOIN_REFUSED, error=str(error), **_told(caller, request))
            raise
        membership = self.issue(
            member, request.roles, request.name, request.advertised, request.public_key, token.labels
        )
        record = _Record(
            roles=request.roles,
            name=request.name,
            advertised=request.advertised,
            labels=token.labels,
            joined=self._now(),
        )
        await self._backend.create(_key(member), record.model_dump_json().encode())
        self._audit.emit(EventType.MEMBER_JOINED, server_id=member, static=token.static, **_told(caller, request))
        return membership

    async def renew(self, caller: Caller, request: RenewRequest) -> Membership:
        """Return new certificates for the identity that the caller proved, under the names that it joined with.

        Of what it advertises beside its name, only what it advertised then, or where it calls from, is certified.
        Raises AccessDenied, InvalidInput.
        """
        record = await self._recognise(caller, request.name)
        advertised = request.advertised
        if record is not None:
            known = {name.lower() for name in (*record.advertised, caller.address)}
            advertised = tuple(name for name in advertised if name.lower() in known)
            if left_out := [name for name in request.advertised if name not in advertised]:
                logger.warning(
                    "%s is not certified as %a: it did not join under these names", caller, ", ".join(left_out)
                )
        await self._check_names(caller, (caller.kind,), (request.name, *advertised))
        labels = record.labels if record else {}
        return self.issue(caller.name, (caller.kind,), request.name, advertised, request.public_key, labels)

    async def imposed_labels(self, caller: Caller, name: str) -> dict[str, str]:
        """Return the labels that the member's token imposed; none for the roles that run beside auth.

        Raises AccessDenied when it goes by another name than it joined with.
        """
        record = await self._recognise(caller, name)
        return record.labels if record else {}

    async def sign_admin(self, caller: Caller, request: AdminRequest) -> Membership:
        """Return an administrator's identity for use on another machine. Raises AccessDenied, InvalidInput.

        An identity that was made so makes no others, which could outlive it.
        """
        if await self._record(caller) is not None:
            raise AccessDenied(
                "an identity that was signed for use elsewhere signs no others",
                hint="Run tctl auth sign on the machine of the auth server.",
            )
        member = str(self._new_id())
        membership = self.issue(member, (CallerKind.ADMIN,), "", (), request.public_key, {}, ttl=request.ttl)
        record = _Record(roles=(CallerKind.ADMIN,), name="", joined=self._now())
        await self._backend.create(
            _key(member), record.model_dump_json().encode(), expires=membership.expires + RECORD_KEPT
        )
        self._audit.emit(
            EventType.ADMIN_SIGNED,
            server_id=member,
            by=str(caller),
            expires=f"{membership.expires:%Y-%m-%dT%H:%M:%SZ}",
        )
        return membership

    def local(
        self, role: CallerKind, name: str, advertised: tuple[str, ...], public_key: str, *, member: str | None = None
    ) -> Membership:
        """Return a membership for a role that runs beside auth, in its process or on its machine, without a token.

        `member` is the id that it has already, if it has one.
        """
        return self.issue(member or str(self._new_id()), (role,), name, advertised, public_key, {})

    def issue(
        self,
        member: str,
        roles: Sequence[CallerKind],
        name: str,
        advertised: tuple[str, ...],
        public_key: str,
        labels: dict[str, str],
        *,
        ttl: timedelta = MEMBER_TTL,
    ) -> Membership:
        """Return certificates of a member for each of its roles. Raises InvalidInput."""
        certificates, ends = [], []
        for role in roles:
            kind = MemberRole(role.value)
            called = self._issuer.member(member, kind, public_key, ttl)
            ends.append(called.valid_before)
            host = b""
            if role in MEMBERS:
                served = self._issuer.host(member, kind, name, advertised, public_key, ttl)
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
        wanted = {principal for name in names for principal in self._principals(name)}
        for kind in (CallerKind.PROXY, CallerKind.AUTH):
            for entry in await self._presence.list(kind):
                presence = entry.presence
                host = _host(presence.addr)
                if host == caller.address:
                    continue
                theirs = {*self._principals(presence.name), host, _host(presence.labels.get("web", presence.addr))}
                if taken := sorted(wanted & theirs):
                    raise AccessDenied(
                        f"the name {taken[0]} is taken by a {kind} of this cluster",
                        hint="Give the node another name: --nodename.",
                    )

    def _principals(self, name: str) -> tuple[str, str]:
        """Return what a member of that name is certified as (`HostClaims`)."""
        return name.lower(), f"{name}.{self._issuer.cluster}".lower()

    def _check_claims(self, member: str, request: JoinRequest) -> None:
        """Refuse, before a token is used up, what could not be certified afterwards. Raises InvalidInput."""
        parse_public_key(request.public_key)
        for role in request.roles:
            HostClaims(
                host_id=member,
                role=MemberRole(role.value),
                name=request.name,
                cluster=self._issuer.cluster,
                advertised=request.advertised,
                ttl=MEMBER_TTL,
            )

    async def _redeem(self, caller: Caller, request: JoinRequest) -> JoinToken:
        """Use the token up; an address that guesses is locked out for a while. Raises AccessDenied."""
        joining = f"join/{source(caller.address)}"
        try:
            await self._attempts.check(joining, most=MAX_JOIN_FAILURES)
            token = await self._tokens.redeem(request.token.get_secret_value(), request.roles)
        except LockedOut as error:
            raise AccessDenied(
                f"nobody joins from {caller.address} until {error.until:%H:%M} UTC: too many tokens were not valid",
                hint="Find what keeps starting there with a wrong --token, stop it, and wait.",
            ) from None
        except AccessDenied:
            await self._attempts.fail(joining)
            raise
        await self._attempts.forgive(joining)
        return token

    async def _recognise(self, caller: Caller, name: str) -> _Record | None:
        """Return what is remembered of a member, None for the roles that run beside auth. Raises AccessDenied."""
        record = await self._record(caller)
        if record is not None and record.name.lower() != name.lower():
            raise AccessDenied(
                f"{caller.kind} {caller.name} joined as {record.name}, not as {name[:80]!a}",
                hint="To rename it, stop it, delete its .identity files in data_dir, and join with a new token.",
            )
        return record

    async def _record(self, caller: Caller) -> _Record | None:
        try:
            item = await self._backend.get(_key(caller.name))
        except NotFound:
            return None
        return _Record.model_validate_json(item.value)


def _told(caller: Caller, request: JoinRequest) -> dict[str, Field]:
    return {"addr.remote": caller.address, "name": request.name, "roles": [str(role) for role in request.roles]}


def public_keys(authorities: Authorities) -> tuple[AuthorityKeys, ...]:
    """Return what others should trust: both authorities with the keys of all generations, the signing one first."""
    return tuple(
        AuthorityKeys(cluster=each.cluster, type=each.type.value, keys=public_key_lines(each))
        for each in (authorities.user, authorities.host)
    )


def public_key_lines(authority: LocalAuthority) -> tuple[str, ...]:
    """Return all keys of an authority that others should trust, the signing one first."""
    signing = authority.signer.public.key.line
    return (signing, *(key.key.line for key in keys_of(authority.public) if key.key.line != signing))


def ca_pins(authorities: Authorities) -> tuple[str, ...]:
    """Return the fingerprints by which newcomers may know this cluster (--ca-pin), that of the signing key first."""
    return tuple(parse_public_key(line).fingerprint for line in public_key_lines(authorities.host))


def _host(address: str) -> str:
    """Return the host of `host:port`, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]").lower()


def _key(member: str) -> str:
    return f"{SECRETS}/member/{member}"
