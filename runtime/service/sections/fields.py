"""The kinds of fields that several sections have."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import SecretStr

from runtime.core import defaults
from runtime.service import values
from runtime.service.schema import read
from runtime.service.values import Address

Boolean = Annotated[bool, read(bool, values.parse_boolean)]
Count = Annotated[int, read(int, values.parse_count)]
FilePath = Annotated[str, read(str, values.parse_path)]
Name = Annotated[str, read(str, values.parse_name)]
Secret = Annotated[SecretStr, read(SecretStr, values.parse_secret)]
HttpsUrl = Annotated[str, read(str, partial(values.parse_url, schemes=("https",)))]
LabelName = Annotated[str, read(str, values.parse_label_name)]
LabelValue = Annotated[str, read(str, values.parse_label_value)]


def address(default_port: int) -> object:
    """Return what reads where to listen, host:port or host."""
    return read(Address, partial(values.parse_address, default_port=default_port))


def peer(default_port: int) -> object:
    """Return what reads where another listens, host:port or host."""
    return read(Address, partial(values.parse_peer, default_port=default_port))


def everywhere(port: int) -> Address:
    """Return the default of where to listen: all of the machine's addresses."""
    return Address(defaults.LISTEN_HOST, port)
