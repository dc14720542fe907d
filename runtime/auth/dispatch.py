"""From a request on the wire to the function that serves it: one place that authorises, checks params, and calls."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from runtime.api.messages import Message
from runtime.api.methods import METHODS, Method
from runtime.api.session import Emit, Serve
from runtime.api.wire import Json
from runtime.core.callers import Caller
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, Unavailable

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)
Piece = TypeVar("Piece", bound=Message)

EmitPiece = Callable[[Message], Awaitable[None]]
Handler = Callable[[Caller, Params], Awaitable[Result]]
StreamHandler = Callable[[Caller, Params, EmitPiece], Awaitable[Result]]
MAX_NAME_SHOWN = 80
"""Characters of an unknown method's name that the audit log takes."""

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""What a disk says that does not take an audit event, say."""

OnRefused = Callable[[Caller, str], Awaitable[None]]
"""Told of each refused call: the caller and the method's name. Audits it."""


def authorise(caller: Caller, method: Method[Any, Any]) -> None:
    """Let the caller use the method, or raise AccessDenied: the one such decision, by `runtime.api.methods`."""
    if caller.kind not in method.callers:
        raise AccessDenied(
            f"{caller.kind} may not call {method.name}",
            hint="Run tctl where the auth server runs, or with an admin identity." if caller.kind != "admin" else "",
        )


class Dispatcher:
    """The methods that auth serves."""

    def __init__(self, on_refused: OnRefused) -> None:
        self._handlers: dict[str, StreamHandler[Any, Any]] = {}
        self._on_refused = on_refused

    def on(self, method: Method[Params, Result], handler: Handler[Params, Result]) -> None:
        """Serve a method with a function of caller and params."""

        async def without_pieces(caller: Caller, params: Params, _: EmitPiece) -> Result:
            return await handler(caller, params)

        self.on_stream(method, without_pieces)

    def on_stream(self, method: Method[Params, Result], handler: StreamHandler[Params, Result]) -> None:
        """Serve a method with a function that also sends pieces ahead of its result."""
        if method.name in self._handlers:
            raise ValueError(f"{method.name} is served already")
        self._handlers[method.name] = handler

    def missing(self) -> frozenset[str]:
        """Return the methods of the table that nobody serves yet."""
        return frozenset(METHODS) - frozenset(self._handlers)

    def serve(self, caller: Caller) -> Serve:
        """Return what serves one caller's conversation."""

        async def serve(name: str, params: dict[str, Json], emit: Emit) -> Json:
            method, handler = METHODS.get(name), self._handlers.get(name)
            if method is None or handler is None:
                await self._on_refused(caller, name[:MAX_NAME_SHOWN])
                raise NotFound(f"there is no method {name!r}", hint="Run the same version of teleport on both sides.")
            try:
                authorise(caller, method)
            except AccessDenied:
                logger.warning("refused: %s called %s", caller, name)
                await self._on_refused(caller, name)
                raise
            try:
                result: Message = await handler(caller, _checked(method, params), _emitter(emit))
            except OSError as error:
                if error.errno not in _DISK:
                    raise
                logger.error("%s of %s: the disk of data_dir: %s", name, caller, error.strerror)  # noqa: TRY400 - no bug
                raise Unavailable(
                    f"the auth server cannot keep this on its disk: {error.strerror}",
                    hint="Make room where its data_dir is.",
                ) from error
            return _written(result)

        return serve


def _checked(method: Method[Params, Any], params: dict[str, Json]) -> Params:
    try:
        return method.params.model_validate(params)
    except ValidationError as error:
        # Where and what, but never the value: it may be a secret.
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise InvalidInput(f"{method.name}: {wrong}") from None


def _emitter(emit: Emit) -> EmitPiece:
    async def emit_piece(piece: Message) -> None:
        await emit(_written(piece))

    return emit_piece


def _written(message: Message) -> Json:
    value: Json = message.model_dump(mode="json")
    return value
