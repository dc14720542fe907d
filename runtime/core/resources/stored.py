"""The form in the backend and on the API: canonical JSON, read leniently where a newer version wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from runtime.core import keys
from runtime.core.errors import InvalidResource
from runtime.core.resources.explain import mistakes_in
from runtime.core.resources.model import Model, Resource
from runtime.core.yaml_marks import show_path

AnyModel = TypeVar("AnyModel", bound=Model)


def key_of(resource: Resource) -> str:
    """Return the backend key of a declared resource."""
    return keys.resource(resource.kind, resource.name)


def encode(model: Model) -> bytes:
    """Return canonical JSON: keys sorted, no blanks, UTF-8, equal bytes for equal values.

    Defaults are written out, so that a role does not come to mean something else when a later version changes one.
    """
    data = model.model_dump(mode="json", exclude_none=True)
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(model: type[AnyModel], value: bytes) -> AnyModel:
    """Return the value that `encode` wrote, be it of this version or of another.

    Fields that this version does not know are left out, so that members of two versions run side by side during an
    upgrade. A value that it does not know in a field that it does (a new verb in a rule) is refused: an access
    decision must not guess. Raises InvalidResource.
    """
    try:
        data = json.loads(value)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested without end
        raise InvalidResource(f"the stored {model.__name__} is not JSON", hint="Apply its document again.") from error
    try:
        return model.model_validate(data, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        what = "; ".join(f"{show_path(each.path)}: {each.what}" for each in mistakes_in(model, error))
        raise InvalidResource(
            f"the stored {model.__name__} {_name(data)}cannot be read: {what}",
            hint="A newer version may have written it: upgrade this one, or apply the document again.",
        ) from error


def _name(data: object) -> str:
    metadata = data.get("metadata") if isinstance(data, Mapping) else None
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f"{name!a} " if isinstance(name, str) else ""
