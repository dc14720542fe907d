"""Authorities, and claims for them to sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole, UserClaims
from runtime.pki.keys import generate_key
from runtime.pki.trust import Signer, Trust

NOW = datetime(2027, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
HOUR = timedelta(hours=1)
HOST_ID = "8f14e45f-ceea-467f-a8d2-0123456789ab"
USER_CA = Signer(AuthorityType.USER, "main", generate_key())
HOST_CA = Signer(AuthorityType.HOST, "main", generate_key())
TRUST = Trust([USER_CA.public, HOST_CA.public])
KEY = generate_key().public
USER = UserClaims(user="joe", cluster="main", logins=("root", "joe"), roles=("dev", "user:joe"), ttl=HOUR)
HOST = HostClaims(host_id=HOST_ID, role=MemberRole.NODE, name="db1", cluster="main", ttl=HOUR)
MEMBER = MemberClaims(host_id=HOST_ID, role=MemberRole.NODE, cluster="main", ttl=HOUR)
