"""How an authority's new keys are believed by those who knew the old ones, without anybody's doing. Pure.

    endorsed    by a key that was believed until then: nobody else speaks for the authority
    possessed   by each key that is new: nobody names a key that is another's

Each is a signature (PROTOCOL.sshsig) over cluster, type, number and keys, for a namespace of its own: that a key was
one of them once does not make it one that may say who comes next. Numbers only rise: what was said once does not come
back. Who has missed some follows from one to the next, as long as each was signed by a key that is believed by then.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import Succession, read_successions
from runtime.pki.keys import PrivateKey, PublicKey, parse_public_key
from runtime.pki.sshsig import sign, verify
from runtime.pki.trust import Signer

ENDORSED = "ca-endorsed@teleport.internal"
POSSESSED = "ca-possessed@teleport.internal"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one authority of another cluster: its keys as lines, and the number that last told them."""

    cluster: str
    type: AuthorityType
    keys: tuple[str, ...]
    number: int = 0


def endorse(old: Signer, new: Signer, *, serial: int) -> str:
    """Return the text of the succession that whoever believes the old key follows to the new one alone."""
    said = _said(old, [new.key.public.line], serial)
    return _signed(said, endorsers=(old.key,), new=(new.key,)).text


def conclude(old: Signer, *, serial: int) -> str:
    """Return the text by which a key ends its authority: whoever believes it trusts nobody in its place."""
    return _signed(_said(old, [], serial), endorsers=(old.key,), new=()).text


def standing(
    cluster: str, kind: AuthorityType, *, keys: Sequence[PublicKey], signers: Sequence[PrivateKey], serial: int
) -> Succession:
    """Return what is to be believed now. `signers` are the private keys that there are, the one known longest first."""
    said = Succession(cluster=cluster, type=kind, number=serial, keys=tuple(key.line for key in keys))
    return _signed(said, endorsers=signers[:1], new=signers[1:])


def follow(
    known: Known, statements: Iterable[Succession], *, foreign: Collection[str]
) -> tuple[Known, tuple[str, ...]]:
    """Return what is known once all that proves itself was taken, and why others that were endorsed were not.

    What is of another authority, was known before, or is endorsed by no key that is believed, counts for nothing.
    `foreign` are the keys that another authority has, ours among them.
    """
    refused: list[str] = []
    for each in sorted(statements, key=lambda each: each.number):
        if (each.cluster, each.type) != (known.cluster, known.type) or each.number <= known.number:
            continue
        if not _has(each, ENDORSED, known.keys):
            continue
        try:
            _check_keys(each, known, foreign)
        except AccessDenied as error:
            refused.append(str(error))
            continue
        known = replace(known, keys=each.keys, number=each.number)
    return known, tuple(refused)


def believed(
    texts: Iterable[str], *, cluster: str, kind: AuthorityType, known: Iterable[PublicKey]
) -> tuple[PublicKey, ...]:
    """Return the keys to which those that are known lead now: these themselves where nothing leads on.

    Raises AccessDenied for what is endorsed and yet not to be believed.
    """
    before = Known(cluster, kind, tuple(key.line for key in known))
    after, refused = follow(before, read_successions(texts), foreign=())
    if refused:
        raise AccessDenied(refused[0])
    return tuple(map(parse_public_key, after.keys))


def _said(signer: Signer, keys: Sequence[str], serial: int) -> Succession:
    return Succession(cluster=signer.cluster, type=signer.type, number=serial, keys=tuple(keys))


def _signed(said: Succession, *, endorsers: Sequence[PrivateKey], new: Sequence[PrivateKey]) -> Succession:
    message = _message(said)
    return said.model_copy(
        update={
            field: tuple(base64.b64encode(sign(key, message, namespace=namespace)).decode() for key in keys)
            for field, namespace, keys in (("endorsements", ENDORSED, endorsers), ("possessions", POSSESSED, new))
        }
    )


def _message(said: Succession) -> bytes:
    """Return what is signed. No part has a line feed in it: the types of its fields see to that."""
    return "\n".join(("succession", "1", said.cluster, said.type.value, str(said.number), *said.keys, "")).encode()


def _check_keys(said: Succession, known: Known, foreign: Collection[str]) -> None:
    """Refuse keys that are another authority's, or that the authority has not shown to have. Raises AccessDenied."""
    name = f"the {said.type} CA of cluster {said.cluster}"
    for key in said.keys:
        try:
            written = parse_public_key(key).line
        except InvalidInput as error:
            raise AccessDenied(f"{name} names a key that is not accepted: {error}") from error
        if written != key or said.keys.count(key) > 1:
            raise AccessDenied(f"{name} names a key twice, or not in its one form: {_shown(key)}")
        if key in foreign:
            raise AccessDenied(f"{name} names a key as its own that is another authority's: {_shown(key)}")
        if key not in known.keys and not _has(said, POSSESSED, (key,)):
            raise AccessDenied(f"{name} names a new key and does not show that it has it: {_shown(key)}")


def _has(said: Succession, namespace: str, keys: Iterable[str]) -> bool:
    """Tell whether one of the keys has signed for that."""
    signatures = said.endorsements if namespace == ENDORSED else said.possessions
    message = _message(said)
    for key in map(parse_public_key, keys):
        for signature in signatures:
            try:
                verify(base64.b64decode(signature, validate=True), message, key, namespace=namespace)
            except (AccessDenied, binascii.Error, ValueError):
                continue
            return True
    return False


def _shown(key: str) -> str:
    return parse_public_key(key).fingerprint
