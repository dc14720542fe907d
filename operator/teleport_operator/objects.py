"""What this process knows of the objects that it has reconciled: enough to tell its own writes from somebody else's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

NO_SECRET = ""
"""The version of a Secret that is not there, or does not let documents refer to it."""


class Ref(NamedTuple):
    """An object of ours."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the backend held of an object when it was last looked at, None for nothing of ours; the roles it names."""

    stored: bytes | None
    roles: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    refused: bool = False
    """The name is another's: whatever happens to it there, it may be free now."""


class Objects:
    """The objects, by what they are called in the backend, where two namespaces may claim one name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Known]] = {}
        self._secrets: dict[Ref, dict[str, str]] = {}
        """The names of the Secrets that each refers to, and the version of each that was read last."""

    def note(self, ref: Ref, known: Known) -> None:
        """Remember what is known of an object."""
        self._known.setdefault((ref.kind, ref.name), {})[ref.namespace] = known

    def forget(self, ref: Ref) -> None:
        """Forget an object that is gone, or about to be."""
        namespaces = self._known.get((ref.kind, ref.name), {})
        namespaces.pop(ref.namespace, None)
        self._secrets.pop(ref, None)
        if not namespaces:
            self._known.pop((ref.kind, ref.name), None)

    def get(self, ref: Ref) -> Known | None:
        """Return what is known of an object."""
        return self._known.get((ref.kind, ref.name), {}).get(ref.namespace)

    def called(self, kind: str, name: str) -> list[tuple[Ref, Known]]:
        """Return the objects of that kind and name, in whatever namespace."""
        return [(Ref(kind, namespace, name), known) for namespace, known in self._known.get((kind, name), {}).items()]

    def all(self) -> Iterator[tuple[Ref, Known]]:
        """Yield all objects."""
        for kind, name in list(self._known):
            yield from self.called(kind, name)

    def naming(self, role: str) -> list[tuple[Ref, Known]]:
        """Return the objects that name a role."""
        return [(ref, known) for ref, known in self.all() if role in known.roles]

    def refer(self, ref: Ref, secrets: Iterable[str]) -> None:
        """Remember which Secrets an object refers to, before they are read: no change to one is missed then."""
        before = self._secrets.get(ref, {})
        if now := {name: before.get(name, NO_SECRET) for name in secrets}:
            self._secrets[ref] = now
        else:
            self._secrets.pop(ref, None)

    def saw(self, ref: Ref, secret: str, version: str) -> None:
        """Remember the resourceVersion of a Secret as an object was judged by; NO_SECRET for none that may be used."""
        if secret in self._secrets.get(ref, {}):
            self._secrets[ref][secret] = version

    def sees(self, ref: Ref, secret: str, version: str) -> bool:
        """Return whether an object refers to a Secret, and was judged by another version of it."""
        return self._secrets.get(ref, {}).get(secret, version) != version

    def refers(self, ref: Ref) -> bool:
        """Return whether an object refers to a Secret."""
        return ref in self._secrets

    def references(self) -> list[tuple[Ref, str]]:
        """Return which objects refer to which Secrets, of their own namespace."""
        return [(ref, name) for ref, names in self._secrets.items() for name in names]
