"""One backend that two processes open differently: auth, which may do all, and the operator, which may do little."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import apsw

from runtime.backend.options import DynamoDBOptions, EtcdOptions, Options, SqliteOptions
from tests.contract.backend.etcd_certificates import CertificateAuthority
from tests.servers.dynamodb_local import QUIET_AWS, DynamoDBLocal
from tests.servers.dynamodb_policy import OPERATOR, Access, PolicyProxy
from tests.servers.etcd import Etcd, ServerTLS
from tests.servers.etcd_access import READ, WRITE, enable_access_control

STORES = ("sqlite", "etcd", "dynamodb")
PREFIX = "shared"

_KEYS: dict[str, tuple[str, ...]] = {
    "sqlite": ("path",),
    "etcd": ("prefix", "tls_cert_file", "tls_key_file", "tls_ca_file"),
    "dynamodb": ("region", "table_name", "access_key", "secret_key", "endpoint"),
}


@dataclass(frozen=True)
class SharedStore:
    """An empty backend: the options of auth and of the operator, and how to take it away and give it back."""

    name: str
    auth: Options
    operator: Options
    go_away: Callable[[], None]
    come_back: Callable[[], None]
    refused: list[Access] = field(default_factory=list)
    """What the operator asked DynamoDB for and was not given."""

    def section(self, options: Options) -> dict[str, object]:
        """Return `storage` of teleport.yaml that opens the backend with these options."""
        peers = {"peers": list(options.peers)} if isinstance(options, EtcdOptions) else {}
        return {"type": self.name, **peers, **{key: getattr(options, key) for key in _KEYS[self.name]}}

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take it away for a while; who asks is not answered, or told that nobody is there."""
        self.go_away()
        try:
            yield
        finally:
            self.come_back()


@contextmanager
def shared_store(name: str, folder: Path) -> Iterator[SharedStore]:
    """Run what the store needs."""
    with ExitStack() as stack:
        if name == "sqlite":
            yield _sqlite(folder, stack)
        elif name == "etcd":
            yield _etcd(folder, stack)
        else:
            yield _dynamodb(folder, stack)


def _sqlite(folder: Path, stack: ExitStack) -> SharedStore:
    """Give a file: it is away while somebody else is in the middle of a write that does not end."""
    options = SqliteOptions(str(folder / "shared.sqlite"))
    held: list[apsw.Connection] = []

    def go_away() -> None:
        held.append(apsw.Connection(options.path))
        held[-1].set_busy_timeout(10_000)
        held[-1].execute("BEGIN IMMEDIATE")

    def come_back() -> None:
        while held:
            held.pop().close()

    stack.callback(come_back)
    return SharedStore("sqlite", options, options, go_away, come_back)


def _etcd(folder: Path, stack: ExitStack) -> SharedStore:
    """Run a server with access control: the operator has the role that docs/operator.md describes."""
    authority = CertificateAuthority(folder, "authority")
    server = authority.issue("server")
    tls = ServerTLS(server.cert, server.key, client_ca=authority.cert)
    etcd = stack.enter_context(Etcd(folder / "etcd", tls=tls))
    rights = {
        "auth": {f"{PREFIX}/": WRITE},
        "operator": {f"{PREFIX}/resources/": WRITE, f"{PREFIX}/public/": READ},
    }
    enable_access_control(etcd, authority, rights)

    def options(user: str) -> EtcdOptions:
        issued = authority.issue(user)
        return EtcdOptions((etcd.url,), PREFIX, str(issued.cert), str(issued.key), str(authority.cert))

    return SharedStore("etcd", options("auth"), options("operator"), etcd.kill, etcd.start)


def _dynamodb(folder: Path, stack: ExitStack) -> SharedStore:
    """Run a server, and a proxy before it that holds the operator to its policy."""
    stack.enter_context(patch.dict(os.environ, QUIET_AWS))
    server = stack.enter_context(DynamoDBLocal(folder))
    proxy = stack.enter_context(PolicyProxy(server.port, OPERATOR))
    options = DynamoDBOptions("eu-west-1", PREFIX, "AKIDEXAMPLE", "secret-key-of-the-tests", server.endpoint)
    return SharedStore(
        "dynamodb",
        options,
        replace(options, endpoint=proxy.endpoint),
        server.kill_when_written,
        server.start,
        proxy.refused,
    )
