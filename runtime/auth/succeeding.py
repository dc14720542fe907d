"""What this cluster tells others of the keys of its own authorities: how they came, and what they are now."""

from __future__ import annotations

from runtime.auth.authorities import Authorities
from runtime.auth.authority_record import LocalAuthority
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import Succession, carried, read_successions
from runtime.pki.succession import standing


def statements(authority: LocalAuthority) -> tuple[Succession, ...]:
    """Return how one key came after another, and which are to be believed now; nothing before the first rotation.

    In an emergency the old key is not asked who comes next: whoever has stolen it could answer, too.
    """
    before = read_successions(each.endorsement for each in authority.successions)
    if not authority.serial or (authority.rotation is not None and authority.rotation.is_emergency):
        return before
    # The active one is known longest: the other waits to take its place.
    generations = sorted(authority.generations, key=lambda each: (each.number != authority.active, each.number))
    now = standing(
        authority.cluster,
        authority.type,
        keys=[each.public for each in generations],
        signers=[each.private for each in generations if each.private is not None],
        serial=authority.serial,
    )
    return (*before, now)


class Told:
    """The same of both authorities, as text to be carried; signed once for each change."""

    def __init__(self, authorities: Authorities) -> None:
        self._authorities = authorities
        self._made: dict[AuthorityType, tuple[int, tuple[Succession, ...]]] = {}

    def __call__(self) -> tuple[str, ...]:
        """Return what is to be told at this moment."""
        return carried(
            each for authority in (self._authorities.user, self._authorities.host) for each in self._of(authority)
        )

    def _of(self, authority: LocalAuthority) -> tuple[Succession, ...]:
        made = self._made.get(authority.type)
        if made is None or made[0] != authority.serial:
            made = self._made[authority.type] = (authority.serial, statements(authority))
        return made[1]
