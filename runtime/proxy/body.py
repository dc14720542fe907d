"""Bodies of requests: of one type, of a bounded size, within a deadline."""

from __future__ import annotations

import asyncio
from typing import TypeVar
from urllib.parse import parse_qs

from aiohttp import web
from pydantic import BaseModel, ValidationError

from runtime.core.errors import InvalidInput
from runtime.proxy.limits import WebLimits

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 16

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: web.Request, content_type: str, limits: WebLimits) -> bytes:
    """Return the body. Raises aiohttp's errors for 408, 413 and 415."""
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType(text=f"this address takes {content_type}")
    if (request.content_length or 0) > limits.body:
        raise web.HTTPRequestEntityTooLarge(max_size=limits.body)
    try:
        async with asyncio.timeout(limits.read_seconds):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


async def read_form(request: web.Request, limits: WebLimits) -> dict[str, str]:
    """Return the fields of a form, of each the first value. Raises InvalidInput, and what `read_body` raises."""
    body = await read_body(request, FORM, limits)
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
            strict_parsing=True,
        )
    except ValueError:
        raise InvalidInput("the form did not arrive as a browser sends it", hint="Fill it in once more.") from None
    return {name: values[0] for name, values in fields.items()}


def parse_json(model: type[Body], content: bytes, hint: str) -> Body:
    """Return a body of JSON as what it stands for. Raises InvalidInput, which names the first field that is wrong."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise InvalidInput(f"{field}: {first['msg']}", hint=hint) from None
