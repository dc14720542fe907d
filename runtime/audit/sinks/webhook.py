"""Events to a URL: POST of up to 256 lines of JSON (application/x-ndjson), until the server answers 2xx.

`Idempotency-Key` is the uid of the first event and how many there are: the same key comes with the same body, so a
server may leave out what it has. (The uid alone would not do: a batch that is tried again may have grown.) Nothing is
given up: what the server refuses is sent again until it is taken, and the log says so. Only an event too large for the
server (413) is sent shortened, so that it does not hold up those behind it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from runtime.audit.chain import link
from runtime.audit.search import uid_of
from runtime.audit.sinks.reasons import reason_of
from runtime.audit.sinks.shorten import shorten
from runtime.core.errors import Unavailable

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
"""For a request and its answer."""
CONTENT_TYPE = "application/x-ndjson"
KEY = "Idempotency-Key"
MAX_TOKEN_BYTES = 64 * 1024
_TOO_LARGE = 413


class WebhookSink:
    """Posts events to one URL. TLS is verified, redirects are not followed, proxies and cookies not used."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str], token_file: str | None = None, ca_file: str | None = None
    ) -> None:
        self._url = url
        parts = urlsplit(url)
        self._shown = f"{parts.scheme}://{parts.netloc}"  # the path may be a secret
        self.name = f"webhook-{zlib.crc32(url.encode()):08x}"
        self._headers = dict(headers)
        self._token_file = token_file
        self._ca_file = ca_file
        self._session: ClientSession | None = None

    async def take(self, lines: Sequence[bytes]) -> None:
        """Post the lines. Raises Unavailable unless the server has taken them all."""
        try:
            await self._take(lines)
        except BaseException:
            await self.close()  # the authority and the server's address are looked up anew
            raise

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _take(self, lines: Sequence[bytes]) -> None:
        status = await self._post(lines, _key(lines))
        if status == _TOO_LARGE and len(lines) > 1:
            half = len(lines) // 2
            await self._take(lines[:half])
            await self._take(lines[half:])
            return
        if status == _TOO_LARGE:
            name = uid_of(lines[0]).decode() or "without an id"
            logger.warning("event %s is too large for %s, which gets it shortened", name, self._shown)
            status = await self._post([shorten(lines[0])], f"{_key(lines)}-shortened")
        if not 200 <= status < 300:
            raise Unavailable(f"{self._shown} answers {status}{_HINTS.get(status // 100, '')}")

    async def _post(self, lines: Sequence[bytes], key: str) -> int:
        headers = {**self._headers, "Content-Type": CONTENT_TYPE, KEY: key}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(_token, Path(self._token_file))}"
        if self._session is None:
            self._session = await self._new_session()
        body = b"".join(line + b"\n" for line in lines)
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except TimeoutError as error:
            raise Unavailable(f"{self._shown} does not answer within {TIMEOUT_SECONDS:.0f} seconds") from error
        except (ClientError, OSError) as error:
            raise Unavailable(f"{self._shown} cannot be reached: {reason_of(error)}") from error

    async def _new_session(self) -> ClientSession:
        verified: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            try:
                verified = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            except OSError as error:
                raise Unavailable(f"the authorities in {self._ca_file} cannot be used: {error.strerror}") from error
        return ClientSession(
            connector=TCPConnector(ssl=verified, limit=1),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=TIMEOUT_SECONDS),
            headers={"User-Agent": "teleport"},
        )


_HINTS = {
    3: ": redirects are not followed; write the URL that is meant",
    4: ": look at the URL, the headers and the token; the events wait",
}


def _key(lines: Sequence[bytes]) -> str:
    return f"{uid_of(lines[0]).decode() or link(lines[0])}-{len(lines)}"


def _token(file: Path) -> str:
    """Return the token in a file. Raises Unavailable, which does not show it."""
    try:
        with file.open("rb") as content:
            token = content.read(MAX_TOKEN_BYTES).decode("ascii").strip()
    except OSError as error:
        raise Unavailable(f"the token cannot be read from {file}: {error.strerror}") from error
    except ValueError:
        token = ""
    if not token or not token.isprintable():
        raise Unavailable(f"there is no token in {file}: it has to be one line of printable ASCII")
    return token
