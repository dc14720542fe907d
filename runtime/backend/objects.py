"""A store of objects: whole files under keys, of which one reads what one needs. What a bucket is to S3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class S3Options:
    """A bucket of S3, or of what speaks as S3 does. Credentials are found as AWS's own tools find them."""

    bucket: str
    prefix: str = ""
    """What each key begins with; it ends with / if it is not empty."""
    region: str | None = None
    endpoint: str | None = None
    timeout: float = 5.0
    """How long the other side may be silent while something is read, in seconds."""
    put_timeout: float = 20.0
    """How long it may be silent while something is put: some make one file of many parts before they answer."""


class ObjectStore(Protocol):
    """Keys are names within the store's prefix. All methods raise Unavailable, AccessDenied, InvalidSettings."""

    name: str
    """What people call it, as in s3://bucket/prefix."""

    async def check(self) -> None:
        """See that objects can be put, read and deleted."""
        ...

    async def put(self, key: str, open_file: Callable[[], BinaryIO]) -> int:
        """Put a file, read it back, and return its size once both are the same. Raises OSError, too."""
        ...

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """Return bytes of an object; none beyond its end. Raises NotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is deleted."""
        ...

    async def close(self) -> None:
        """Give up what is under way."""
        ...
