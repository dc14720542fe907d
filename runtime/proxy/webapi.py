"""The JSON API of tsh: who answers (ping), and a password and a key in for a certificate (login)."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.messages import Nothing
from runtime.api.people_messages import LoginRequest
from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
from runtime.proxy.body import parse_json, read_body
from runtime.proxy.limits import InFlight, WebLimits

_SHORTEST, _LONGEST = (int(ttl.total_seconds()) for ttl in (MIN_CERTIFICATE_TTL, MAX_CERTIFICATE_TTL))


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters in it")
    return text


_HINT = "Send JSON with user, password, otp, public_key and ttl."


class LoginBody(BaseModel):
    """What tsh sends. Fields that a newer tsh adds are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    user: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]
    password: Annotated[SecretStr, Field(max_length=1024)]
    otp: Annotated[SecretStr, Field(max_length=1024)] | None = None
    public_key: Annotated[str, Field(max_length=16 * 1024)]
    ttl: Annotated[float, Field(ge=_SHORTEST, le=_LONGEST, allow_inf_nan=False)] | None = None
    """Seconds. Judged before auth is asked, so that a wrong one does not use up a one-time password."""


class WebApi:
    """Answers /webapi. `ssh_port` is where this proxy's SSH is, on another host if `ssh_host` names one."""

    def __init__(
        self, auth: AuthClient, *, ssh_port: int, ssh_host: str = "", credentials: InFlight, limits: WebLimits
    ) -> None:
        self._auth = auth
        self._ssh: dict[str, object] = {"ssh_port": ssh_port, **({"ssh_host": ssh_host} if ssh_host else {})}
        self._credentials = credentials
        self._limits = limits

    async def ping(self, request: web.Request) -> web.Response:
        """Tell which cluster this is, how people log in, the time, and where SSH is. Raises Unavailable."""
        pong = await self._auth.call(methods.PING, Nothing())
        told = pong.model_dump(mode="json", exclude={"dynamic_config"})  # which is no stranger's business
        return web.json_response({**told, **self._ssh})

    async def log_in(self, request: web.Request) -> web.Response:
        """Pass on what was typed, and return the certificate. Raises AccessDenied, InvalidInput, Unavailable."""
        address = request.remote or ""
        typed = parse_json(LoginBody, await read_body(request, "application/json", self._limits), _HINT)
        with self._credentials.slot(address):
            reply = await self._auth.call(
                methods.LOGIN,
                LoginRequest.model_validate(
                    {
                        "user": typed.user,
                        "password": typed.password,
                        "otp": typed.otp or SecretStr(""),
                        "public_key": typed.public_key,
                        "ttl": typed.ttl,
                        "address": address,
                    }
                ),
            )
        return web.json_response(reply.model_dump(mode="json"))
