"""What is said on a tunnel, sans I/O.

The leaf is the SSH server on it, the root its client. Each request is a session channel of its own, whose subsystem is
`NAME JSON`:

    hello {...}      once, first: who the root is, where its proxies are, and what its authorities say of themselves;
                     the answer in JSON says it of the leaf. Again when that changes
    nodes {...}      which nodes somebody may see, who has signed for it. Answered in JSON
    connect {...}    a node for somebody: from then on the channel is the node's SSH. What goes wrong stands on standard
                     error, as on the proxy's own port

JSON answers are `{"result": …}` or `{"error": {"kind", "message", "hint"}}`. Fields that are not known are ignored, so
that either side may be the newer one; `version` rises only with what an older side would get wrong.

Each end is a table of what may come when:

    LeafEnd     new ── hello ──► greeted ── hello, nodes, connect ──► greeted
    RootEnd     new ── answer to hello ──► greeted

A hello of another cluster than the one that was proved, anything before hello, and anything malformed is InvalidInput
or AccessDenied: the other side's fault, for which the tunnel ends.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, kind_named, name_of_kind
from runtime.core.succession import MAX_CHARACTERS, MAX_STATEMENTS

VERSION = 1
MAX_REQUEST = 64 * 1024
"""Characters of a request: a login's certificate and signature are 16 Ki characters each at most."""
MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of an answer: some 50,000 nodes."""
MAX_PROXIES = 64
"""Of one root, all of which a leaf keeps tunnels to."""
MAX_SHOWN = 512
"""Characters of another side's words that are shown."""

HELLO, NODES, CONNECT = "hello", "nodes", "connect"

_Text = Annotated[str, Field(max_length=1024)]
_Statements = Annotated[tuple[Annotated[str, Field(max_length=MAX_CHARACTERS)], ...], Field(max_length=MAX_STATEMENTS)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class Place(_Said):
    """A proxy of the root, by its id, and where it takes tunnels (host:port). Behind a balancer several are at one."""

    proxy: _Text
    address: _Text


class Hello(_Said):
    """The root introduces itself, and tells where all its proxies are."""

    version: int
    cluster: _Text
    proxy: _Text
    proxies: Annotated[tuple[Place, ...], Field(max_length=MAX_PROXIES)] = ()
    signer: _Text = ""
    """Fingerprint of the authority that has signed what this proxy logs in with now: if another one did for this very
    tunnel, a new one is due."""
    successions: _Statements = ()
    """What its authorities say of themselves (`runtime.core.succession`)."""


class Welcome(_Said):
    """The leaf's answer: which of its proxies this is."""

    version: int
    cluster: _Text
    proxy: _Text
    name: _Text = ""
    successions: _Statements = ()
    """As the root's."""


class Visitor(_Said):
    """On whose behalf: the certificate that was proved at the root's proxy, and the address that it came from."""

    certificate: Annotated[str, Field(max_length=16 * 1024)]
    login: _Text
    address: _Text


class Connect(_Said):
    """Which node, in the visitor's words."""

    host: _Text
    port: Annotated[int, Field(ge=0, le=65535)]
    visitor: Visitor


class Nodes(_Said):
    """A list of nodes, as a person of the root has signed for it (`runtime.api.signed`)."""

    method: _Text
    target: Annotated[str, Field(max_length=8 * 1024)]
    certificate: Annotated[bytes, Field(max_length=16 * 1024)]
    signature: Annotated[bytes, Field(max_length=16 * 1024)]
    time: _Text
    address: _Text


Request = Hello | Nodes | Connect
_REQUESTS: dict[str, type[Hello] | type[Nodes] | type[Connect]] = {HELLO: Hello, NODES: Nodes, CONNECT: Connect}
_NAMES = {model: name for name, model in _REQUESTS.items()}
SaidT = TypeVar("SaidT", bound=_Said)


class LeafEnd:
    """The leaf's end of one tunnel, to a proxy that was proved to be `proxy` of the cluster `root`."""

    def __init__(self, *, root: str, proxy: str) -> None:
        self.root = root
        self._proxy = proxy
        self.greeted = False

    def receive(self, subsystem: str | None) -> Request:
        """Return what the root asks for. Raises InvalidInput, AccessDenied."""
        request = parse_request(subsystem)
        if isinstance(request, Hello):
            if request.version != VERSION:
                raise InvalidInput(
                    f"the root speaks version {request.version} of the tunnel, this proxy version {VERSION}",
                    hint="Run releases of teleport on both sides that are not far apart.",
                )
            if (request.cluster, request.proxy) != (self.root, self._proxy):
                raise AccessDenied(
                    f"proxy {self._proxy} of cluster {self.root} calls itself {_short(request.proxy)} of cluster "
                    f"{_short(request.cluster)}"
                )
            self.greeted = True
        elif not self.greeted:
            raise InvalidInput(f"{_NAMES[type(request)]} came before {HELLO}")
        return request


class RootEnd:
    """The root's end of one tunnel, to a proxy that was proved to be `proxy` of the cluster `leaf`."""

    def __init__(self, *, leaf: str, proxy: str) -> None:
        self._leaf = leaf
        self._proxy = proxy
        self.greeted = False

    def greeted_with(self, answer: bytes) -> Welcome:
        """Take the answer to hello. Raises InvalidInput, AccessDenied, or what the leaf refused with."""
        welcome = read_answer(answer, Welcome)
        if welcome.version != VERSION:
            raise InvalidInput(
                f"the leaf speaks version {welcome.version} of the tunnel, this proxy version {VERSION}",
                hint="Run releases of teleport on both sides that are not far apart.",
            )
        if (welcome.cluster, welcome.proxy) != (self._leaf, self._proxy):
            raise AccessDenied(
                f"proxy {self._proxy} of cluster {self._leaf} calls itself {_short(welcome.proxy)} of cluster "
                f"{_short(welcome.cluster)}"
            )
        self.greeted = True
        return welcome


def write_request(request: Request) -> str:
    """Return the subsystem that asks for it. Raises InvalidInput for what no leaf would take."""
    text = f"{_NAMES[type(request)]} {request.model_dump_json()}"
    if len(text) > MAX_REQUEST:
        raise InvalidInput(f"a request of {len(text)} characters; {MAX_REQUEST} is the most")
    return text


def fitting(hello: Hello) -> Hello:
    """Return a hello that can be written: without what authorities say, where there is no room for it."""
    fits = len(f"{HELLO} {hello.model_dump_json()}") <= MAX_REQUEST
    return hello if fits else hello.model_copy(update={"successions": ()})


def parse_request(subsystem: str | None) -> Request:
    """Return what a subsystem asks for. Raises InvalidInput."""
    if subsystem is None:
        raise InvalidInput("a tunnel has no shell and runs no commands")
    if len(subsystem) > MAX_REQUEST:
        raise InvalidInput(f"a request of {len(subsystem)} characters; {MAX_REQUEST} is the most")
    name, _, document = subsystem.partition(" ")
    model = _REQUESTS.get(name)
    if model is None:
        raise InvalidInput(f"a tunnel has no subsystem {_short(name)}")
    return _parse(model, document.encode(), f"the request {name}")


def write_result(result: BaseModel) -> bytes:
    """Return the answer that says that."""
    return b'{"result":' + result.model_dump_json().encode() + b"}"


def write_json_result(result: bytes) -> bytes:
    """Return the answer that says what is JSON already."""
    return b'{"result":' + result + b"}"


def write_error(error: TeleportError) -> bytes:
    """Return the answer that refuses with that."""
    told = {"kind": name_of_kind(error), "message": str(error)[:MAX_SHOWN], "hint": error.hint[:MAX_SHOWN]}
    return json.dumps({"error": told}).encode()


class _Error(_Said):
    kind: _Text = ""
    message: _Text = ""
    hint: _Text = ""


class _Answer(_Said):
    result: Any = None
    error: _Error | None = None


def read_answer(answer: bytes, model: type[SaidT]) -> SaidT:
    """Return what an answer says. Raises what the leaf refused with, and InvalidInput for what is no answer."""
    return _parse(model, read_result(answer), "the answer")


def read_result(answer: bytes) -> bytes:
    """Return an answer's result as JSON. Raises what the leaf refused with, and InvalidInput for what is no answer."""
    if len(answer) > MAX_ANSWER:
        raise InvalidInput(f"an answer of more than {MAX_ANSWER} bytes")
    parsed = _parse(_Answer, answer, "the answer")
    if parsed.error is not None:
        kind = kind_named(parsed.error.kind)
        raise kind(_short(parsed.error.message) or "the leaf refuses", hint=_short(parsed.error.hint))
    return json.dumps(parsed.result).encode()


def _parse(model: type[SaidT], document: bytes, what: str) -> SaidT:
    try:
        return model.model_validate_json(document)
    except ValidationError as error:
        # Where, but not the value: it may be anything.
        places = ", ".join(".".join(map(str, each["loc"])) or "the document" for each in error.errors()[:5])
        raise InvalidInput(f"{what} is malformed at {places[:MAX_SHOWN]}") from None


def _short(text: str) -> str:
    """Return another side's words for a message: one line of printable characters, and not too many."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= MAX_SHOWN else line[:MAX_SHOWN] + "…"
