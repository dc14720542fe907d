"""The values of teleport.yaml and of flags, from their text: each parser returns what the text means or says why not.

No parser shows what it was given where that may be a secret.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr

from runtime.core.durations import format_duration, parse_duration
from runtime.core.errors import InvalidInput
from runtime.core.resources import names

MAX_NAME = 253
"""Characters of a node's name: a DNS name's limit (RFC 1035 §2.3.4)."""
MAX_TEXT = 1024
"""Characters of a path, a URL or a word of a command."""
MIN_PERIOD = timedelta(seconds=1)
"""How often a label command may run at most: it starts a process each time."""

MIN_DRAIN, MAX_DRAIN = timedelta(seconds=10), timedelta(hours=24)
"""How long a stop may be asked to take: good-byes and the last events need some seconds."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
# A node's labels, a cluster's name and logins become parts of resources, whose rules they share.
_LABEL_NAME = re.compile(names.LABEL_KEY_PATTERN.removesuffix("$"))
_LABEL_VALUE = re.compile(names.LABEL_VALUE_PATTERN.removesuffix("$"))
_LOGIN = re.compile(names.LOGIN_PATTERN.removesuffix("$"))
_CLUSTER_NAME = re.compile(names.NAME_PATTERN.removesuffix("$"))
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CA_PIN = re.compile(r"SHA256:[A-Za-z0-9+/]{43}\Z")


class Role(StrEnum):
    """A service that `teleport start` runs (manual, "Configuration Flags")."""

    AUTH = "auth"
    NODE = "node"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect: a host name or IP address, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StaticToken:
    """An invitation that never expires: `proxy,node:VALUE` (manual, "Static Tokens")."""

    roles: frozenset[Role]
    value: SecretStr


def parse_boolean(text: str) -> bool:
    """Return the truth of `yes`, `no`, `true`, `false`, `on` or `off` in any case (YAML 1.1). Raises InvalidInput."""
    match text.lower():
        case "yes" | "true" | "on":
            return True
        case "no" | "false" | "off":
            return False
    raise InvalidInput(f"expected yes or no, found {shown(text)}")


def parse_count(text: str) -> int:
    """Return a number from 1 up to a million. Raises InvalidInput."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= 1_000_000:
        raise InvalidInput(f"expected a number from 1 to 1000000, found {shown(text)}")
    return int(text)


def parse_period(text: str) -> timedelta:
    """Return how often something happens, at least MIN_PERIOD. Raises InvalidInput."""
    try:
        period = parse_duration(text)
    except InvalidInput as error:
        raise InvalidInput(f"expected a duration such as 30s, 1m0s or 1h, but {error}") from error
    if period < MIN_PERIOD:
        raise InvalidInput(f"expected {format_duration(MIN_PERIOD)} or more, found {shown(text)}")
    return period


def parse_name(text: str) -> str:
    """Return the name of a node: letters, digits, dots, dashes and underscores. Raises InvalidInput."""
    if len(text) > MAX_NAME or not _NAME.match(text):
        raise InvalidInput(
            f"expected a name of letters, digits, dots, dashes and underscores, at most {MAX_NAME}, found {shown(text)}"
        )
    return text


def parse_text(text: str) -> str:
    """Return text without control characters. Raises InvalidInput."""
    if not text or len(text) > MAX_TEXT or _CONTROL.search(text):
        raise InvalidInput(f"expected text without control characters, at most {MAX_TEXT}, found {shown(text)}")
    return text


def parse_cluster_name(text: str) -> str:
    """Return the name of a cluster: lower-case letters, digits, dots and dashes, as in DNS. Raises InvalidInput."""
    if len(text) > names.MAX_NAME or not _CLUSTER_NAME.fullmatch(text):
        raise InvalidInput(
            f"expected a name of a-z, 0-9, dots and dashes, at most {names.MAX_NAME} characters, found {shown(text)}"
        )
    return text


def parse_label_value(text: str) -> str:
    """Return a label's value: at most 255 printable ASCII characters; may be empty. Raises InvalidInput."""
    if not _LABEL_VALUE.fullmatch(text):
        raise InvalidInput(f"expected at most 255 printable ASCII characters, found {shown(text)}")
    return text


def parse_secret(text: str) -> SecretStr:
    """Return a secret of printable ASCII without blanks. Raises InvalidInput, which does not show it."""
    if not re.fullmatch(r"[!-~]{1,1024}", text):
        raise InvalidInput("expected printable characters without blanks (not shown: a secret)")
    return SecretStr(text)


def parse_path(text: str) -> str:
    """Return an absolute path. Raises InvalidInput."""
    if not parse_text(text).startswith("/"):
        raise InvalidInput(f"expected an absolute path, found {shown(text)}")
    return text


def parse_ip(text: str) -> str:
    """Return an IP address of either version, in its canonical form. Raises InvalidInput."""
    try:
        return str(ip_address(_without_zone(text)))
    except ValueError:
        raise InvalidInput(f"expected an IP address, found {shown(text)}") from None


def parse_advertised_ip(text: str) -> str:
    """Return an IP address that others can connect to. Raises InvalidInput."""
    ip = parse_ip(text)
    if ip_address(ip).is_unspecified or ip_address(ip).is_multicast:
        raise InvalidInput(f"expected an address that others can connect to, found {shown(text)}")
    return ip


def parse_address(text: str, *, default_port: int, lowest_port: int = 0) -> Address:
    """Return the address of `host`, `host:port`, `[ipv6]` or `[ipv6]:port`. Raises InvalidInput."""
    expected = f"expected HOST or HOST:PORT such as 10.0.0.5:{default_port}, found {shown(text)}"
    match = re.fullmatch(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?", text, re.DOTALL)
    if not match:
        raise InvalidInput(f"{expected}; an IPv6 address stands in brackets" if text.count(":") > 1 else expected)
    host, port = match["host"], match["port"]
    if match["ipv6"] is not None:
        try:
            host = str(IPv6Address(_without_zone(match["ipv6"])))
        except ValueError:
            raise InvalidInput(f"{expected}; what stands in brackets is no IPv6 address") from None
    elif len(host) > MAX_NAME or not _HOST.match(host):
        raise InvalidInput(expected)
    if port is None:
        return Address(host, default_port)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not lowest_port <= int(port) <= 65535:
        raise InvalidInput(f"expected a port from {lowest_port} to 65535, found {shown(port)}")
    return Address(host, int(port))


def parse_peer(text: str, *, default_port: int) -> Address:
    """Return an address to connect to: `parse_address`, but not port 0. Raises InvalidInput."""
    return parse_address(text, default_port=default_port, lowest_port=1)


def parse_url(text: str, *, schemes: tuple[str, ...]) -> str:
    """Return a URL of one of the schemes, with a host and without credentials. Raises InvalidInput."""
    expected = f"expected a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    try:
        url = urlsplit(parse_text(text))
        good = url.scheme in schemes and url.port != 0 and _is_host(url.hostname or "") and " " not in text
    except ValueError:
        good = False
    else:
        if url.username or url.password:
            raise InvalidInput(f"{expected}, without a user name or password in it")
    if not good:
        raise InvalidInput(f"{expected}, found {shown(text)}")
    return text


def parse_etcd_peer(text: str) -> str:
    """Return a peer of etcd: `https://host:port`, or `host:port`, which means https. Raises InvalidInput."""
    if "://" in text:
        return parse_url(text, schemes=("https", "http"))
    parse_peer(text, default_port=2379)
    return text


def parse_etcd_prefix(text: str) -> str:
    """Return the folder of etcd's keys, as in `teleport` or `/clusters/main`. Raises InvalidInput."""
    if not re.fullmatch(r"/?[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*/?", parse_text(text)):
        raise InvalidInput(f"expected a prefix such as teleport or /clusters/main, found {shown(text)}")
    return text


def parse_dynamodb_table(text: str) -> str:
    """Return a table's name: 3 to 255 letters, digits, `_`, `-` and `.` (DynamoDB's rules). Raises InvalidInput."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", text):
        raise InvalidInput(f"expected a table's name of 3 to 255 letters, digits, _, - and ., found {shown(text)}")
    return text


def parse_logins(text: str) -> tuple[str, ...]:
    """Return the logins of `root, jsmith` (manual, "Permissions with Trusted Clusters"). Raises InvalidInput."""
    logins = tuple(login.strip() for login in text.split(","))
    for login in logins:
        if not _LOGIN.fullmatch(login):
            raise InvalidInput(
                f"expected logins such as root, jsmith, each of a-z, 0-9 and _ . -, at most 32, found {shown(login)}"
            )
    return tuple(dict.fromkeys(logins))


def parse_label_name(text: str) -> str:
    """Return the name of a label. Raises InvalidInput."""
    if not _LABEL_NAME.fullmatch(text):
        raise InvalidInput(f"expected a label of at most 63 letters, digits and inner . _ / -, found {shown(text)}")
    return text


def parse_roles(text: str) -> frozenset[Role]:
    """Return the roles of `auth,node,proxy`, at least one. Raises InvalidInput."""
    written = [name.strip() for name in text.split(",")]
    known = [role.value for role in Role]
    for name in written:
        if name not in known:
            raise InvalidInput(f"expected {either(known)}, found {shown(name)}{did_you_mean(name, known)}")
    return frozenset(map(Role, written))


def parse_static_token(text: str) -> StaticToken:
    """Return the token of `ROLE[,ROLE]:VALUE`. Raises InvalidInput, which does not show the text."""
    roles, colon, value = text.partition(":")
    if not colon:
        raise InvalidInput(
            'expected "ROLE,ROLE:VALUE" such as "proxy,node:VALUE", found no colon (not shown: a secret)'
        )
    try:
        return StaticToken(parse_roles(roles), parse_secret(value))
    except InvalidInput:
        # Whatever stands in the wrong place may be the secret, so neither half is shown.
        known = either([role.value for role in Role])
        raise InvalidInput(
            f'expected "ROLE,ROLE:VALUE", each role {known}, the value without blanks (not shown: a secret)'
        ) from None


def parse_ca_pin(text: str) -> str:
    """Return the fingerprint of a CA key as `ssh-keygen -l` prints it. Raises InvalidInput."""
    if not _CA_PIN.match(text):
        raise InvalidInput(
            f"expected SHA256: and 43 characters of base64, as tctl nodes add prints, found {shown(text)}"
        )
    return text


def parse_ca_pin_or_file(text: str) -> str:
    """Return the fingerprint of a CA key, or the absolute path of a file with it. Raises InvalidInput."""
    return parse_path(text) if text.startswith("/") else parse_ca_pin(text)


def parse_drain(text: str) -> timedelta:
    """Return how long a stop may take: 10 s to 24 h. Raises InvalidInput."""
    drain = parse_period(text)
    if not MIN_DRAIN <= drain <= MAX_DRAIN:
        limits = f"{format_duration(MIN_DRAIN)} to {format_duration(MAX_DRAIN)}"
        raise InvalidInput(f"expected {limits}, found {shown(text)}")
    return drain


def parse_command(text: str) -> tuple[str, ...]:
    """Return the words of a command line, quoted as in a shell; no shell will run it. Raises InvalidInput."""
    try:
        words = tuple(parse_text(word) for word in shlex.split(parse_text(text)))
    except ValueError:
        words = ()
    if not words:
        raise InvalidInput(f'expected a command such as "uname -r", found {shown(text)}')
    return words


def shown(text: str) -> str:
    """Return text from outside for a message: quoted, escaped and cut."""
    return ascii(text if len(text) <= 60 else text[:60] + "…") if text else "nothing"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: by its IP address, or as `localhost`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def either(words: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known name nearest to a mistyped one, or nothing if none is near."""
    nearest = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def _without_zone(ip: str) -> str:
    """Return the text of an IP address. Raises ValueError for one with a zone (`%eth0`), which may hold anything."""
    if "%" in ip:
        raise ValueError("a zone")
    return ip


def _is_host(host: str) -> bool:
    if ":" in host:
        return "%" not in host  # urlsplit has checked the brackets and the address within
    return len(host) <= MAX_NAME and bool(_HOST.match(host))
