"""Certificate authorities: the signing one with its private key, and the public ones that are trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import Authority, AuthorityType
from runtime.pki.claims import check_cluster
from runtime.pki.keys import PrivateKey, PublicKey, parse_public_key


@dataclass(frozen=True, slots=True)
class AuthorityKey:
    """One public key of an authority. An authority that is being rotated has several."""

    type: AuthorityType
    cluster: str
    key: PublicKey

    def __str__(self) -> str:
        return f"{self.type} CA of cluster {self.cluster}"


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs: the private key of one authority, and whose it is."""

    type: AuthorityType
    cluster: str
    key: PrivateKey

    @property
    def public(self) -> AuthorityKey:
        """The part that others may know."""
        return AuthorityKey(self.type, self.cluster, self.key.public)


def keys_of(authority: Authority) -> tuple[AuthorityKey, ...]:
    """Return the keys of all generations of a public authority. Raises InvalidInput for one that is not accepted."""
    return tuple(
        AuthorityKey(authority.type, authority.cluster, parse_public_key(generation.public_key))
        for generation in authority.generations
    )


class Trust:
    """The authority keys that are believed, found by their bytes."""

    def __init__(self, authorities: Iterable[AuthorityKey]) -> None:
        """Refuse, with InvalidInput, one key for two authorities: then none could be told from the other."""
        self._by_blob: dict[bytes, AuthorityKey] = {}
        for authority in authorities:
            check_cluster(authority.cluster)
            known = self._by_blob.setdefault(authority.key.blob, authority)
            if known != authority:
                raise InvalidInput(
                    f"the same key {authority.key.fingerprint} is given as the {known} and as the {authority}",
                    hint="Each authority needs a key of its own: export both again and compare.",
                )

    def find(self, blob: bytes) -> AuthorityKey | None:
        """Return the authority whose key has exactly these bytes, if it is trusted."""
        return self._by_blob.get(blob)

    def keys_of(self, cluster: str) -> frozenset[bytes]:
        """Return all keys by which a cluster is believed."""
        return frozenset(blob for blob, authority in self._by_blob.items() if authority.cluster == cluster)
