"""When auth and one who knows its cluster do not believe each other any more: whether the keys that were known lead on.

Authorities are rotated while somebody is away. Auth then shows a host certificate by a key that this one has never
heard of. So it is asked, by a newcomer who believes nothing yet, how its keys came (`runtime.pki.succession`): what
one of the known keys has signed is believed, and nothing else. Where nothing leads on, it is said what to do.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.cluster_messages import Authorities, AuthorityKeys
from runtime.api.dial import NOBODY_LOGIN, Dialer, Identity
from runtime.api.messages import Nothing
from runtime.api.proof_messages import KeysProof, KeysQuery
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import Succession, read_successions
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import service_principal
from runtime.pki.key_proof import NONCE_CHARACTERS, is_proved
from runtime.pki.keys import PublicKey, generate_key, parse_public_key
from runtime.pki.newcomer import self_signed
from runtime.pki.sshsig import claimed_signer
from runtime.pki.succession import believed
from runtime.pki.wire import write_line
from runtime.service.identity import StoredIdentity, signer_of

HOST = AuthorityType.HOST.value
LOOK_SECONDS = 10.0
"""How long an auth server may take to tell how its keys came."""


class Estranged(AccessDenied):
    """Nothing that is known leads to what auth is now, or auth takes nothing any more that we could show.

    `proved`: it was auth for certain that we have heard this from.
    """

    def __init__(self, message: str, *, hint: str, proved: bool) -> None:
        super().__init__(message, hint=hint)
        self.proved = proved


@dataclass(frozen=True, slots=True)
class Shown:
    """What an auth server shows to whom it does not know: the key that vouches for it, and how that one came."""

    vouching: PublicKey
    statements: tuple[str, ...]
    proof: KeysProof | None = None
    """What its keys say at this moment, if they were asked."""


async def look(server: str, *, nonce: str = "") -> Shown:
    """Ask who answers at host:port, whoever that is; with a nonce the keys, too. Raises Unavailable, AccessDenied."""
    vouching: list[PublicKey] = []

    def note(name: str, certificate: bytes) -> None:
        shown = read_certificate(certificate)
        if not shown.signature_is_good():
            raise AccessDenied("the server's certificate was changed, or made up")
        vouching.append(parse_public_key(write_line(shown.signature.ca_key)))

    key = await asyncio.to_thread(generate_key)
    newcomer = Identity(NOBODY_LOGIN, key.to_openssh().encode(), self_signed(key, NOBODY_LOGIN))
    client = AuthClient(Dialer(lambda: newcomer, note, service_principal(CallerKind.AUTH)).dial, lambda: (server,))
    try:
        told: Authorities = await client.call(methods.AUTHORITIES, Nothing(), timeout=LOOK_SECONDS)
        proof: KeysProof | None = None
        if nonce:
            with suppress(NotFound):  # of an older release, which has one key anyway
                proof = await client.call(methods.AUTHORITIES_PROVE, KeysQuery(nonce=nonce), timeout=LOOK_SECONDS)
    finally:
        await client.close()
    return Shown(vouching[-1], told.statements, proof)


async def look_again(server: str, identity: StoredIdentity) -> tuple[AuthorityKeys, ...]:
    """Return whom to believe now, as far as what the identity believes leads there.

    Raises Estranged where nothing leads to this server's key, or to the one that signed our own certificate, and
    Unavailable.
    """
    shown = await look(server)
    found = tuple(_led(authority, shown.statements) for authority in identity.authorities)
    hosts = [parse_public_key(key) for each in found if each.type == HOST for key in each.keys]
    who = identity.login
    if not hosts:
        raise Estranged(
            f"the host CA of cluster {identity.cluster} was replaced in an emergency while {who} was away: the one "
            "that it knows says itself that none follows it",
            hint=_anew(identity),
            proved=False,
        )
    if shown.vouching not in hosts:
        raise Estranged(
            f"the auth server at {server} is vouched for by a CA that {who} does not know, "
            f"{shown.vouching.fingerprint}, and none that it knows leads there",
            hint=f"Compare with tctl auth ls. If the authorities were rotated while it was away: {_anew(identity)} "
            "If not, somebody else answers in auth's place.",
            proved=False,
        )
    if signer_of(identity.member_certificate) not in [key.fingerprint for key in hosts]:
        raise Estranged(
            f"auth does not accept the certificates of {who} any more: the host CA that signed them, "
            f"{signer_of(identity.member_certificate)}, was replaced while it was away",
            hint=_anew(identity),
            proved=True,
        )
    return found


async def leads_from(pin: str, server: str) -> str | None:
    """Return the fingerprint of the CA that vouches for a server, if the CA that is pinned leads there; else None.

    It does if it was that CA's predecessor, or is trusted beside it at this moment. Raises Unavailable, AccessDenied.
    """
    nonce = secrets.token_hex(NONCE_CHARACTERS // 2)
    shown = await look(server, nonce=nonce)
    proof = shown.proof
    if (
        proof is not None
        and shown.vouching.line in proof.keys
        and is_proved(proof.signatures, pin=pin, nonce=nonce, cluster=proof.cluster, keys=proof.keys)
    ):
        return shown.vouching.fingerprint
    for statement in read_successions(shown.statements):
        for key in _named(statement):
            if key.fingerprint == pin:
                led = believed(shown.statements, cluster=statement.cluster, kind=AuthorityType.HOST, known=(key,))
                return shown.vouching.fingerprint if shown.vouching in led else None
    return None


def _named(statement: Succession) -> Iterator[PublicKey]:
    """Yield the keys that a statement names, and those that are said to have signed it: one has to be looked for."""
    yield from map(parse_public_key, statement.keys)
    for signature in statement.endorsements:
        with suppress(AccessDenied, InvalidInput, ValueError):
            yield claimed_signer(base64.b64decode(signature, validate=True))


def _led(authority: AuthorityKeys, statements: tuple[str, ...]) -> AuthorityKeys:
    """Return an authority with the keys to which those that are known lead. Raises AccessDenied for lies."""
    known = [parse_public_key(key) for key in authority.keys]
    keys = believed(statements, cluster=authority.cluster, kind=AuthorityType(authority.type), known=known)
    return authority.model_copy(update={"keys": tuple(key.line for key in keys)})


def _anew(identity: StoredIdentity) -> str:
    if identity.role is CallerKind.ADMIN:
        return "have a new identity made on the auth server: tctl auth sign."
    return (
        f"join anew: on the auth server run tctl nodes add --roles={identity.role}, and start here with its --token "
        "and --ca-pin."
    )
