"""How a cluster becomes a leaf of this one over HTTPS: the proxy says who it is, and passes the token on to auth."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.succession_messages import Successions
from runtime.api.trust_messages import LeafRequest
from runtime.core.errors import InvalidInput
from runtime.core.succession import MAX_CHARACTERS, MAX_STATEMENTS
from runtime.pki.introduction import NONCE_CHARACTERS, introduce
from runtime.pki.keys import load_private_key
from runtime.proxy.body import parse_json, read_body
from runtime.proxy.limits import InFlight, WebLimits
from runtime.service.identity import StoredIdentity

PATH = "/webapi/trust"
_NONCE = re.compile(rf"[0-9a-f]{{{NONCE_CHARACTERS}}}\Z")
_Text = Annotated[str, Field(max_length=1024)]
MAX_REQUEST = 64 * 1024
"""Characters of what one cluster says, as on a tunnel."""

_HINT = "Send JSON with token, cluster, host_keys and proof."


class LeafBody(BaseModel):
    """What a leaf's auth sends. Fields that a newer one adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    token: Annotated[SecretStr, Field(min_length=1, max_length=1024)]
    cluster: Annotated[str, Field(min_length=1, max_length=128)]
    host_keys: Annotated[tuple[Annotated[str, Field(max_length=16 * 1024)], ...], Field(min_length=1, max_length=16)]
    proof: _Text


class SuccessionsBody(BaseModel):
    """What a cluster says of its authorities, which proves itself (`runtime.core.succession`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    cluster: Annotated[str, Field(min_length=1, max_length=128)]
    statements: Annotated[
        tuple[Annotated[str, Field(max_length=MAX_CHARACTERS)], ...], Field(max_length=MAX_STATEMENTS)
    ]


class TrustRoutes:
    """Answers /webapi/trust. `tls` is the SHA-256 (hex) of the HTTPS certificate that is shown."""

    def __init__(
        self,
        auth: AuthClient,
        identity: Callable[[], StoredIdentity],
        tls: Callable[[], str],
        *,
        credentials: InFlight,
        limits: WebLimits,
    ) -> None:
        self._auth = auth
        self._identity = identity
        self._tls = tls
        self._credentials = credentials
        self._limits = limits

    def add(self, app: web.Application) -> None:
        """Serve all of it."""
        app.router.add_get(PATH, self.introduce, allow_head=False)
        app.router.add_post(PATH, self.accept)
        app.router.add_post(f"{PATH}/successions", self.learn)

    async def introduce(self, request: web.Request) -> web.Response:
        """Prove, to who has the pin of our host CA, which HTTPS certificate is ours. Raises InvalidInput."""
        nonce = request.query.get("nonce", "")
        if not _NONCE.match(nonce):
            raise InvalidInput(f"nonce: expected {NONCE_CHARACTERS} lower-case hex digits")
        identity = self._identity()
        told = introduce(
            load_private_key(identity.key.get_secret_value()),
            identity.host_certificate,
            nonce=nonce,
            cluster=identity.cluster,
            tls=self._tls(),
        )
        return web.json_response(asdict(told))

    async def accept(self, request: web.Request) -> web.Response:
        """Pass a leaf's token on, and return whom it may believe. Raises AccessDenied, AlreadyExists, InvalidInput."""
        address = request.remote or ""
        body = parse_json(LeafBody, await read_body(request, "application/json", self._limits), _HINT)
        with self._credentials.slot(address):
            reply = await self._auth.call(
                methods.TRUSTED_ACCEPT,
                LeafRequest(
                    token=body.token, cluster=body.cluster, host_keys=body.host_keys, proof=body.proof, address=address
                ),
            )
        return web.json_response(reply.model_dump(mode="json"))

    async def learn(self, request: web.Request) -> web.Response:
        """Pass on what another cluster says of its authorities, and return what ours say: it is public, both ways.

        Raises InvalidInput.
        """
        body = parse_json(
            SuccessionsBody, await read_body(request, "application/json", self._limits), "Send cluster and statements."
        )
        if sum(map(len, body.statements)) > MAX_REQUEST:
            raise InvalidInput(f"statements: more than {MAX_REQUEST} characters")
        with self._credentials.slot(request.remote or ""):
            reply = await self._auth.call(
                methods.TRUSTED_LEARN, Successions(cluster=body.cluster, statements=body.statements)
            )
        return web.json_response(reply.model_dump(mode="json"))
