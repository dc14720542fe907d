"""The API server: who we are to it, one connection pool for us and one for kopf, and its errors as ours.

Credentials are what kubectl would use: KUBECONFIG, else the pod's service account, else ~/.kube/config, plug-ins and
tokens that are renewed included. Each request is authorized anew, since a service account's token lives for an hour.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME

from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidInput,
    InvalidSettings,
    NotFound,
    TeleportError,
    Unavailable,
)

REQUEST_SECONDS = 15.0
CONNECT_SECONDS = 5.0
MAX_REQUESTS = 20
"""Requests at once, kopf's and ours, watches and the Lease aside: kopf would have one for each object, with a TLS
connection of its own."""

_LEASES = "/apis/coordination.k8s.io/"
"""Where the Lease is, which is not lost because others wait in line."""

MAX_EVENT_BYTES = 4 * 2**20
"""Of one line of a watch: more than etcd holds of an object."""

IDLE_SECONDS = 45.0
"""How long an unused connection is kept; load balancers drop them silently after a minute or more."""

_JSON = "application/json"
_POD_NAMESPACE = Path(SERVICE_TOKEN_FILENAME).parent / "namespace"
_HOME = Path("~/.kube/config")
_HINT = "Set KUBECONFIG, or run in a pod with a service account."


class ApiServer:
    """The API server that this process is configured for."""

    def __init__(self, configuration: Configuration, tls: ssl.SSLContext, namespace: str) -> None:
        """Use `connect` instead."""
        self._configuration = configuration
        self._tls = tls
        self.namespace = namespace
        """Where the operator itself is: its pod's, or the kubeconfig's."""
        self.url: str = configuration.host.rstrip("/")
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._session = self._pool()

    @classmethod
    async def connect(cls) -> ApiServer:
        """Return the API server that the environment names; nothing is sent yet. Raises InvalidSettings."""
        configuration = Configuration()
        try:
            # What a kubeconfig holds inline is written to files to be read: not longer than that.
            with TemporaryDirectory(prefix="teleport-operator-") as folder:
                namespace = await _load(configuration, folder)
                return cls(configuration, _tls(configuration), namespace)
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidSettings(f"no way to the API server: {error}", hint=_HINT) from error

    def kopf_session(self, listen: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Return a connection pool for kopf, which closes it; `listen` sees its watches."""
        return self._pool(listen, self._take_turns)

    def _pool(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=IDLE_SECONDS),
            middlewares=(self._authorize, *middlewares),
            proxy=self._configuration.proxy,
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            headers={"User-Agent": "teleport-operator"},
        )

    async def get(self, path: str, *, accept: str = _JSON) -> dict[str, Any]:
        """Return the object at that path, in the form that is accepted. Raises NotFound, AccessDenied, Unavailable."""
        return await self._request("GET", path, accept=accept)

    async def follow(self, path: str, *, accept: str, silence: float) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a watch until the API server ends it; after `silence` seconds without one it is given up.

        Raises AccessDenied, Unavailable.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        what = f"GET {path}"
        try:
            async with self._session.get(f"{self.url}{path}", headers={"Accept": accept}, timeout=timeout) as answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise _error(answer.status, await answer.json(), what)
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                    if len(rest) > MAX_EVENT_BYTES:
                        raise Unavailable(f"the API server answered {what} with a line without end")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the API server did not answer {what}: {error or type(error).__name__}") from error

    async def create(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Create an object in the collection at that path and return it.

        Raises AlreadyExists, InvalidInput, NotFound, AccessDenied, Unavailable.
        """
        return await self._request("POST", path, body)

    async def replace(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Replace the object; with metadata.resourceVersion in `body` only that very version.

        Raises CompareFailed, InvalidInput, NotFound, AccessDenied, Unavailable.
        """
        return await self._request("PUT", path, body)

    async def patch(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Merge `body` into the object (RFC 7386) and return it.

        Raises CompareFailed, InvalidInput, NotFound, AccessDenied, Unavailable.
        """
        return await self._request("PATCH", path, body)

    async def delete(self, path: str) -> None:
        """Delete the object. Raises NotFound, AccessDenied, Unavailable."""
        await self._request("DELETE", path)

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()

    async def _authorize(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if token := await self._configuration.get_api_key_with_prefix("BearerToken"):
            request.headers["Authorization"] = token
        return await handler(request)

    async def _take_turns(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if is_watch(request):
            return await handler(request)
        async with self._slots:
            return await handler(request)

    def _turn(self, path: str) -> AbstractAsyncContextManager[object]:
        return nullcontext() if path.startswith(_LEASES) else self._slots

    async def _request(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, accept: str = _JSON
    ) -> dict[str, Any]:
        kind = "application/merge-patch+json" if method == "PATCH" else _JSON
        what = f"{method} {path}"
        try:
            # The turn first: what a request may take begins when it is sent.
            async with (
                self._turn(path),
                self._session.request(
                    method, f"{self.url}{path}", json=body, headers={"Content-Type": kind, "Accept": accept}
                ) as answer,
            ):
                content: dict[str, Any] = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"the API server did not answer {what}: {error or type(error).__name__}") from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _error(answer.status, content, what)
        return content


def is_watch(request: aiohttp.ClientRequest) -> bool:
    """Return whether the answer goes on for minutes."""
    return request.url.query.get("watch") == "true"


async def _load(configuration: Configuration, folder: str) -> str:
    """Fill in how to reach the API server, and return the namespace that we are in."""
    if paths := _kubeconfig():
        loader = await load_kube_config(  # type: ignore[no-untyped-call]  # the library has no types there
            paths, client_configuration=configuration, persist_config=False, temp_file_path=folder
        )
        return str(loader.current_context["context"].get("namespace") or "default")
    load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # nor there
    return _POD_NAMESPACE.read_text().strip()


def _kubeconfig() -> str:
    """Return the kubeconfig's path, or several with colons; empty in a pod that is given none."""
    given = os.environ.get("KUBECONFIG")
    if not given and Path(SERVICE_TOKEN_FILENAME).exists():
        return ""
    paths = given or str(_HOME.expanduser())
    if not any(Path(path).expanduser().exists() for path in paths.split(os.pathsep) if path):
        raise ConfigException(f"there is no {paths}")
    return paths


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _error(status: int, content: Mapping[str, Any], what: str) -> TeleportError:
    """Return what the API server's refusal is to us (Kubernetes API conventions, "Response Status Kind")."""
    message = f"{what}: {content.get('message') or status}"
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFound(message)
        case HTTPStatus.CONFLICT if content.get("reason") == "AlreadyExists":
            return AlreadyExists(message)
        case HTTPStatus.CONFLICT:
            return CompareFailed(message)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return AccessDenied(message, hint="Give the operator's service account that permission.")
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return InvalidInput(message)
    return Unavailable(message)
