"""Every error that Teleport raises on purpose.

    TeleportError                what happened, to what, and what to do next (`hint`)
    ├── InvalidInput             what somebody wrote cannot be accepted; nothing was changed
    │   ├── InvalidSettings      teleport.yaml or a flag; names file, line and key
    │   ├── InvalidResource      a document of kind User, Role, …; names the path within it
    │   ├── InvalidKey           a backend key or prefix outside the port's rules
    │   └── InvalidValue         a backend value beyond the port's limit
    ├── NotFound                 there is nothing under that name
    ├── AlreadyExists            create found something under that name
    ├── CompareFailed            somebody else changed it since it was read
    ├── CorruptState             the backend holds what cannot be used; it is left as it is
    ├── AccessDenied             the caller may not do that, or what it showed is not valid
    └── Unavailable              the other side did not answer in time, or not at all

A foreign library's exception never crosses a folder's edge: it is translated where the library is called, with
the original as `__cause__`.
"""

from __future__ import annotations


class TeleportError(Exception):
    """An error that a person can act on: `str(error)` says what happened, `hint` what to do next (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def in_full(self) -> str:
        """What happened and what to do next, as one text."""
        return f"{self}. {self.hint}" if self.hint else str(self)


class InvalidInput(TeleportError):
    """What somebody wrote cannot be accepted. Nothing was changed."""


class InvalidSettings(InvalidInput):
    """teleport.yaml or a command line flag is wrong; the message names file, line and key."""


class InvalidResource(InvalidInput):
    """A resource document is wrong; the message names the path within it, as in `spec.allow.logins[1]`."""


class InvalidKey(InvalidInput):
    """A backend key or prefix is outside the rules of `runtime.core.keys`."""


class InvalidValue(InvalidInput):
    """A backend value is larger than every backend can hold."""


class NotFound(TeleportError):
    """There is nothing under that name."""


class AlreadyExists(TeleportError):
    """Something is already there under that name."""


class CompareFailed(TeleportError):
    """It was changed, or deleted, since the revision that the caller knows."""


class CorruptState(TeleportError):
    """What the backend holds under a key cannot be used. It is left as it is: there may be no other copy."""


class AccessDenied(TeleportError):
    """The caller may not do that, or what it showed as proof is not valid."""


class Unavailable(TeleportError):
    """The other side did not answer in time, or not at all.

    A write that ends so may or may not have been carried out: read before deciding.
    """


_TOLD = {
    kind.__name__: kind
    for kind in (InvalidInput, InvalidResource, NotFound, AlreadyExists, CompareFailed, AccessDenied, Unavailable)
}
"""The kinds that another process is told of; a finer one is told as the nearest of them."""


def name_of_kind(error: TeleportError) -> str:
    """Return the name by which another process is told the kind of an error; "" for a TeleportError as such."""
    return next((base.__name__ for base in type(error).__mro__ if base.__name__ in _TOLD), "")


def kind_named(name: object) -> type[TeleportError]:
    """Return the kind of error that another process told by name; TeleportError for what is no such name."""
    return _TOLD.get(name, TeleportError) if isinstance(name, str) else TeleportError
