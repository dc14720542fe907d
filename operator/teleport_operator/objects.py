"""What this process knows of the objects that it has reconciled: enough to tell its own writes from somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


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


class Objects:
    """The objects, by what they are called in the backend, where two namespaces may claim one name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Known]] = {}

    def note(self, ref: Ref, known: Known) -> None:
        """Remember what is known of an object."""
        self._known.setdefault((ref.kind, ref.name), {})[ref.namespace] = known

    def forget(self, ref: Ref) -> None:
        """Forget an object that is gone, or about to be."""
        namespaces = self._known.get((ref.kind, ref.name), {})
        namespaces.pop(ref.namespace, None)
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
