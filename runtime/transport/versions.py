"""The asyncssh releases whose internals `guards` and `capture` were read and tested against."""

from __future__ import annotations

import re

FIRST_TESTED = (2, 24, 1)
"""2.24.0 has no limit on the length of a packet and waits for ever on a peer's maximum packet size of 0."""
FIRST_UNTESTED = (2, 25, 0)


def require_tested(installed: str) -> None:
    """Return when that asyncssh release is a tested one.

    Raises ImportError, which says what to do: an override that the library no longer calls guards nothing, and nobody
    would notice.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:3])
    if not FIRST_TESTED <= numbers < FIRST_UNTESTED:
        first, last = (".".join(map(str, bound)) for bound in (FIRST_TESTED, FIRST_UNTESTED))
        raise ImportError(
            f"asyncssh {installed} is installed; runtime.transport is tested with {first} to below {last}. "
            "Install a tested release, or read docs/adr/0005-asyncssh-guards.md, run the tests in tests/unit/transport "
            "and tests/integration with the new one, and change the bounds in runtime/transport/versions.py."
        )
