"""The sign-up page: an invite's link in, a form out; a password and a code in, an account made."""

from __future__ import annotations

import re

from aiohttp import web
from pydantic import ValidationError

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.messages import Nothing
from runtime.api.people_messages import SignupQuery, SignupRequest
from runtime.core.errors import InvalidInput, NotFound, TeleportError, Unavailable
from runtime.proxy.body import read_form
from runtime.proxy.faults import fault_of
from runtime.proxy.limits import InFlight, WebLimits
from runtime.proxy.pages import Pages

_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,128}")


class SignupPages:
    """Answers /web/newuser/TOKEN and `/`. Auth judges; an invite is used up by its one answer that says so."""

    def __init__(self, auth: AuthClient, pages: Pages, *, credentials: InFlight, limits: WebLimits) -> None:
        self._auth = auth
        self._pages = pages
        self._credentials = credentials
        self._limits = limits
        self._cluster = ""

    async def index(self, request: web.Request) -> web.Response:
        """Say what this is. Raises Unavailable."""
        return self._pages.index(cluster=await self._cluster_name())

    async def show(self, request: web.Request) -> web.Response:
        """Return the form of a link. It uses nothing up: programs that preview links open it too."""
        try:
            return await self._form(request)
        except TeleportError as error:
            return self._pages.signup_refused(fault_of(error))

    async def submit(self, request: web.Request) -> web.Response:
        """Complete a sign-up, or return the form with what to do better."""
        fields = await read_form(request, self._limits)
        try:
            with self._credentials.slot(request.remote or ""):
                user = await self._complete(request, fields)
            return self._pages.signed_up(user, cluster=await self._cluster_name())
        except InvalidInput as error:
            return await self._again(request, error)
        except TeleportError as error:
            return self._pages.signup_refused(fault_of(error))

    async def _complete(self, request: web.Request, fields: dict[str, str]) -> str:
        if fields.get("password", "") != fields.get("again", ""):
            raise InvalidInput("the two passwords are not the same", hint="Type the same password twice.")
        try:
            typed = SignupRequest.model_validate(
                {
                    "token": _token(request),
                    "password": fields.get("password", ""),
                    "otp": fields.get("otp", ""),
                    "address": request.remote or "",
                }
            )
        except ValidationError:  # its text quotes what was typed
            raise InvalidInput("the password or the code is longer than 1024 characters") from None
        try:
            return (await self._auth.call(methods.SIGNUP_COMPLETE, typed)).user
        except Unavailable as error:
            # The request may have got through and its answer been lost.
            hint = "Open the link again in a minute. If it says that it was used, your account is ready."
            raise Unavailable(str(error), hint=hint) from error

    async def _again(self, request: web.Request, error: InvalidInput) -> web.Response:
        try:
            return await self._form(request, error)
        except TeleportError as worse:
            return self._pages.signup_refused(fault_of(worse))

    async def _form(self, request: web.Request, error: InvalidInput | None = None) -> web.Response:
        query = SignupQuery.model_validate({"token": _token(request), "address": request.remote or ""})
        form = await self._auth.call(methods.SIGNUP_SHOW, query)
        fault = fault_of(error) if error else None
        return self._pages.signup(form, cluster=await self._cluster_name(), fault=fault)

    async def _cluster_name(self) -> str:
        """Return the cluster's name, which never changes while a certificate of it is good."""
        if not self._cluster:
            self._cluster = (await self._auth.call(methods.PING, Nothing())).cluster
        return self._cluster


def _token(request: web.Request) -> str:
    token = request.match_info["token"]
    if not _TOKEN.fullmatch(token):
        raise NotFound(
            "this sign-up link is not whole, or has something at its end that does not belong there",
            hint="Copy the whole link, and nothing more, from the message in which you got it.",
        )
    return token
