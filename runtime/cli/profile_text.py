"""What is known of one proxy, as ~/.tsh/PROXY.yaml has it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.cli.tsh_address import Address, parse_fingerprint
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.core.defaults import PROXY_SSH_PORT
from runtime.core.errors import CorruptState, InvalidInput

USER_NAME = re.compile(r"(?=.{1,128}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""`runtime.core.resources.names.NAME_PATTERN`."""


def check_user(name: str) -> str:
    """Return the name if it can be a user's and a file's. Raises InvalidInput."""
    if not USER_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:64]!a} cannot be the name of a Teleport user",
            hint="A name is made of a-z, 0-9, `-` and `.`; give yours with --user=NAME.",
        )
    if name.endswith((".pub", ".cert")):
        raise InvalidInput(
            f"the certificate of user {name!a} would have the name of somebody else's files",
            hint="An administrator has to give you another name: one that does not end in .pub or .cert.",
        )
    return name


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one proxy: who logged in last, its pinned certificate if any, and whom to believe behind it."""

    proxy: Address
    user: str
    pin: str = ""
    cluster: str = ""
    ssh_port: int = PROXY_SSH_PORT
    authorities: tuple[AuthorityKeys, ...] = ()
    """Host authorities; none after logging out."""
    ssh_host: str = ""
    """Where the proxy's SSH is, if not on the host of `proxy`."""

    @property
    def ssh_address(self) -> str:
        """The name or address of the proxy's SSH, without its port and brackets."""
        return (self.ssh_host or self.proxy.host).strip("[]")


def render(profile: Profile) -> str:
    """Return a profile's file."""
    document = {
        "proxy": str(profile.proxy),
        "user": profile.user,
        "pin": profile.pin,
        "cluster": profile.cluster,
        "ssh_port": profile.ssh_port,
        "ssh_host": profile.ssh_host,
        "authorities": [{"cluster": each.cluster, "keys": list(each.keys)} for each in profile.authorities],
    }
    return json.dumps(document, indent=2) + "\n"


def parse(path: Path, text: str) -> Profile:
    """Return the profile in a file. Raises CorruptState."""
    try:
        document = _load(text)
        proxy = Address.parse(_text(document["proxy"]))
        if f"{proxy.name}.yaml" != path.name:
            raise ValueError("it is another proxy's")
        pin = _text(document["pin"])
        return Profile(
            proxy=proxy,
            user=check_user(_text(document["user"])),
            pin=parse_fingerprint(pin) if pin else "",
            cluster=_text(document["cluster"]),
            ssh_port=int(document["ssh_port"]),
            ssh_host=_host(document.get("ssh_host", "")),
            authorities=tuple(
                AuthorityKeys(_text(each["cluster"]), "host", tuple(map(_text, each["keys"])))
                for each in document["authorities"]
            ),
        )
    except (ValueError, TypeError, KeyError, InvalidInput) as error:
        raise CorruptState(
            f"{path} cannot be used: {error}", hint="Delete it and log in again: tsh login --proxy=HOST."
        ) from error


def _load(text: str) -> Any:
    """Return the document in a text. We write JSON, which is YAML and read at once; a person may write any YAML."""
    try:
        return json.loads(text)
    except ValueError:
        import yaml  # a twentieth of a second

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error


def _host(value: object) -> str:
    """Return a host's name or address; what it could say to ssh beside that is none."""
    text = _text(value)
    return Address.parse(f"{text}:1").host if text else ""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
