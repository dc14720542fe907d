"""The methods of auth, each from its message to the part that does it, and back.

Who may call what was decided before (`runtime.auth.dispatch`).
"""

from __future__ import annotations

from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.cluster import ClusterHandlers
from runtime.auth.handlers.events import EventHandlers
from runtime.auth.handlers.parts import Parts
from runtime.auth.handlers.people import PeopleHandlers
from runtime.auth.handlers.recording_search import RecordingSearchHandlers
from runtime.auth.handlers.resources import ResourceHandlers
from runtime.auth.handlers.rotation import RotationHandlers
from runtime.auth.handlers.sessions import SessionHandlers
from runtime.auth.handlers.tokens import TokenHandlers
from runtime.auth.handlers.trusted import TrustedHandlers
from runtime.auth.handlers.tunnels import TunnelHandlers
from runtime.auth.handlers.users import UserHandlers

__all__ = ["Parts", "register"]


def register(dispatcher: Dispatcher, parts: Parts) -> None:
    """Serve every method of the table."""
    for group in (
        ClusterHandlers,
        PeopleHandlers,
        UserHandlers,
        TokenHandlers,
        ResourceHandlers,
        EventHandlers,
        RecordingSearchHandlers,
        SessionHandlers,
        TunnelHandlers,
        TrustedHandlers,
        RotationHandlers,
    ):
        group(parts).register(dispatcher)
