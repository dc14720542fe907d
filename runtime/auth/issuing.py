"""The one place that issues certificates: a decided identity in, a signed and audited certificate out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.authorities import Authorities
from runtime.core.access import Rights
from runtime.core.clock import Clock
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.pki.certificate import Certificate
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole, UserClaims
from runtime.pki.keys import parse_public_key
from runtime.pki.signing import random_serial, sign_host, sign_member, sign_user


class Issuer:
    """Signs with the cluster's authorities. Who asks was judged before; what is asked for is checked here again."""

    def __init__(
        self, authorities: Authorities, clock: Clock, audit: Audit, *, serial: Callable[[], int] = random_serial
    ) -> None:
        self.authorities = authorities
        self._clock = clock
        self._audit = audit
        self._serial = serial

    @property
    def cluster(self) -> str:
        """The cluster that certificates are for."""
        return self.authorities.cluster

    def user(
        self, name: str, rights: Rights, public_key: str, ttl: timedelta | None, *, person: str = ""
    ) -> Certificate:
        """Return a certificate for a person, for `ttl` (None: 23 hours) but no longer than the roles allow.

        Raises InvalidInput for a key that is not accepted, or a ttl below a minute.
        """
        claims = UserClaims(
            user=name,
            cluster=self.cluster,
            logins=rights.logins,
            roles=rights.roles,
            ttl=min(ttl if ttl is not None else CERTIFICATE_TTL, rights.max_ttl),
            permit_agent_forwarding=rights.forward_agent,
            permit_port_forwarding=rights.port_forwarding,
            join_sessions=True,
            person=person,
        )
        signer = self.authorities.user.signer
        key = parse_public_key(public_key)
        certificate = sign_user(claims, key, signer=signer, now=self._clock.now(), serial=self._serial())
        self._issued(certificate, "user", name, claims.principals)
        return certificate

    def host(
        self,
        host_id: str,
        role: MemberRole,
        name: str,
        advertised: tuple[str, ...],
        public_key: str,
        ttl: timedelta,
    ) -> Certificate:
        """Return a certificate to serve SSH with. Raises InvalidInput."""
        claims = HostClaims(host_id=host_id, role=role, name=name, cluster=self.cluster, advertised=advertised, ttl=ttl)
        signer = self.authorities.host.signer
        key = parse_public_key(public_key)
        certificate = sign_host(claims, key, signer=signer, now=self._clock.now(), serial=self._serial())
        self._issued(certificate, "host", host_id, claims.principals)
        return certificate

    def member(self, host_id: str, role: MemberRole, public_key: str, ttl: timedelta) -> Certificate:
        """Return a certificate to call other services with. Raises InvalidInput.

        The host CA signs it, with the key for what clients show: not always the same while it is rotated.
        """
        claims = MemberClaims(host_id=host_id, role=role, cluster=self.cluster, ttl=ttl)
        signer = self.authorities.host.client_signer
        key = parse_public_key(public_key)
        certificate = sign_member(claims, key, signer=signer, now=self._clock.now(), serial=self._serial())
        self._issued(certificate, "member", host_id, (claims.principal,))
        return certificate

    def _issued(self, certificate: Certificate, kind: str, name: str, principals: tuple[str, ...]) -> None:
        self._audit.emit(
            EventType.CERTIFICATE_ISSUED,
            user=name if kind == "user" else "",
            kind=kind,
            subject=name,
            principals=list(principals),
            serial=str(certificate.serial),
            expires=f"{datetime.fromtimestamp(certificate.valid_before, UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
