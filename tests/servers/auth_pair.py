"""Two `teleport start --roles=auth` on one backend: a file, a real etcd, or the real DynamoDB Local."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from runtime.api.client import AuthClient
from runtime.backend.options import DynamoDBOptions, EtcdOptions, MemoryOptions, Options, SqliteOptions
from runtime.core.clock import SystemClock
from runtime.service.identity import DataDir, read_identity
from runtime.service.member import AuthServers, auth_client
from tests.servers.dynamodb_local import QUIET_AWS, DynamoDBLocal
from tests.servers.etcd import Etcd
from tests.servers.teleport import START_SECONDS, Teleport

STORES = ("sqlite", "etcd", "dynamodb")
TOKEN = "node,proxy:0123456789abcdef0123456789abcdef"
"""A static token, as teleport.yaml has it."""


@dataclass(frozen=True)
class Store:
    """A backend that is empty: the `storage` section for teleport.yaml, and the options that open the same."""

    name: str
    section: dict[str, object]
    options: Options

    def elsewhere(self, name: str) -> Options:
        """Return what opens another place in the same store, which is empty too: a file, a prefix, a table."""
        match self.options:
            case SqliteOptions():
                return replace(self.options, path=f"{self.options.path}.{name}")
            case EtcdOptions():
                return replace(self.options, prefix=name)
            case DynamoDBOptions():
                return replace(self.options, table_name=name)
            case MemoryOptions():
                raise ValueError("two processes cannot share memory")


@contextmanager
def running_store(name: str, folder: Path) -> Iterator[Store]:
    """Run what the store needs, and give it empty."""
    if name == "sqlite":
        path = str(folder / "shared.sqlite")
        yield Store(name, {"type": name, "path": path}, SqliteOptions(path))
    elif name == "etcd":
        with Etcd(folder / "etcd") as etcd:
            yield Store(
                name,
                {"type": name, "peers": [etcd.url], "prefix": "pair"},
                EtcdOptions(peers=(etcd.url,), prefix="pair"),
            )
    else:
        with patch.dict(os.environ, QUIET_AWS), DynamoDBLocal(folder) as server:
            options = DynamoDBOptions("eu-west-1", "pair", "AKIDEXAMPLE", "secret-key-of-the-tests", server.endpoint)
            keys = ("region", "table_name", "access_key", "secret_key", "endpoint")
            yield Store(name, {"type": name, **{key: getattr(options, key) for key in keys}}, options)


class AuthPair:
    """Two auth servers, `one` and `two`, that find their backend empty and have no name for the cluster."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        self.one, self.two = (self._server(folder / name) for name in ("one", "two"))

    @property
    def both(self) -> tuple[Teleport, Teleport]:
        """Both servers."""
        return self.one, self.two

    def start(self) -> None:
        """Start both at the same moment, and block until both serve."""
        for server in self.both:
            server.launch()
        for server in self.both:
            server.wait_for_log("ready: ", timeout=START_SECONDS)

    def stop(self) -> None:
        """End both."""
        for server in self.both:
            server.stop()

    def admin(self, *servers: Teleport) -> AuthClient:
        """Return an administrator's client of these servers, of both if none is given; in the order given."""
        identity = read_identity(self.one.admin_identity)
        nowhere = DataDir(self.one.folder / "none")
        known = AuthServers(nowhere, [server.auth_address for server in servers or self.both])
        return auth_client(lambda: identity, known, SystemClock())

    def _server(self, folder: Path) -> Teleport:
        server = Teleport(folder, ["auth"], config={"auth_service": {"tokens": [TOKEN]}})
        del server.config["auth_service"]["cluster_name"]
        server.configure({"teleport": {"storage": self.store.section}})
        return server


@contextmanager
def running_pair(store: str, folder: Path) -> Iterator[AuthPair]:
    """Run a backend and two auth servers on it."""
    with ExitStack() as stack:
        pair = AuthPair(folder, stack.enter_context(running_store(store, folder)))
        stack.callback(pair.stop)
        pair.start()
        yield pair
