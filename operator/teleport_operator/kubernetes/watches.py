"""Proof that the watches live: when the API server last said something on each, be it only a bookmark.

A watch can fall silent while its connection looks well. The API server sends a bookmark about once a minute, and kopf
opens each watch anew every few minutes; so one that was not heard for longer is dead, whatever anybody believes of it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from teleport_operator.kubernetes.api_server import is_watch


@dataclass(frozen=True, slots=True, order=True)
class Watched:
    """What a watch is on: the plural of a resource, and the namespace, empty for all."""

    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.resource} in {self.namespace}" if self.namespace else self.resource


class Watches:
    """The watches of this process, by what they are on."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._heard: dict[Watched, float] = {}

    def heard(self, watched: Watched) -> None:
        """Something came in on this watch, or it was opened."""
        self._heard[watched] = self._now()

    def forget(self, watched: Watched) -> None:
        """Nothing is watched there any more, and nothing is expected to be heard."""
        self._heard.pop(watched, None)

    def ages(self) -> Mapping[Watched, float]:
        """Return for how many seconds each watch has been silent."""
        now = self._now()
        return {watched: now - heard for watched, heard in sorted(self._heard.items())}

    def silent(self, longest: float) -> list[str]:
        """Return a line for each watch that was silent for longer than that, in seconds."""
        return [
            f"nothing was heard of {watched} for {age:.0f} s" for watched, age in self.ages().items() if age > longest
        ]

    def missing(self, resources: tuple[str, ...]) -> list[str]:
        """Return a line for each resource that is not watched yet."""
        known = {watched.resource for watched in self._heard}
        return [f"{each} are not watched: is the CRD there?" for each in resources if each not in known]

    async def listen(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Note what comes in on watches: a middleware of the session that kopf uses."""
        response = await handler(request)
        if is_watch(request) and response.ok:
            watched = what_is_watched(request.url.path)
            self.heard(watched)
            # kopf reads a watch by iter_chunked alone; the rest goes to the real one.
            response.content = _Overheard(response.content, lambda: self.heard(watched))  # type: ignore[assignment]
        return response


def what_is_watched(path: str) -> Watched:
    """Return what a watch on this path of the API is on: `/apis/GROUP/VERSION[/namespaces/NAME]/PLURAL`."""
    parts = path.strip("/").split("/")
    in_namespace = len(parts) >= 3 and parts[-3] == "namespaces"
    return Watched(parts[-1], parts[-2] if in_namespace else "")


class _Overheard:
    """A stream that tells whenever something was read from it."""

    def __init__(self, stream: aiohttp.StreamReader, tell: Callable[[], None]) -> None:
        self._stream = stream
        self._tell = tell

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield what comes in."""
        async for chunk in self._stream.iter_chunked(size):
            self._tell()
            yield chunk
