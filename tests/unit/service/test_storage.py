"""From the storage section to what opens the backend."""

from __future__ import annotations

import pytest

from runtime.backend.options import DynamoDBOptions, EtcdOptions, Options, SqliteOptions
from runtime.core.errors import InvalidSettings
from runtime.service.load import resolve


@pytest.mark.parametrize(
    ("storage", "options"),
    [
        ("", SqliteOptions("/data/backend.sqlite")),
        ("storage: {type: sqlite}", SqliteOptions("/data/backend.sqlite")),
        ("storage: {type: dir}", SqliteOptions("/data/backend.sqlite")),
        ("storage: {type: sqlite, path: state/db}", SqliteOptions("/data/state/db")),
        ("storage: {type: sqlite, path: /srv/db}", SqliteOptions("/srv/db")),
        ("storage: {type: etcd, peers: ['etcd:2379']}", EtcdOptions(peers=("etcd:2379",))),
        (
            "storage: {type: dynamodb, region: r, table_name: ttt, endpoint: 'http://127.0.0.1:8000'}",
            DynamoDBOptions(region="r", table_name="ttt", endpoint="http://127.0.0.1:8000"),
        ),
    ],
)
def test_options(storage: str, options: Options) -> None:
    """Each kind of storage becomes the options of its backend; the embedded one lives in data_dir."""
    assert resolve(f"teleport:\n  data_dir: /data\n  {storage}\n").backend == options


@pytest.mark.parametrize(
    ("written", "storage", "dynamic"),
    [
        (None, None, False),
        (None, "{type: sqlite}", True),
        ("no", "{type: sqlite}", False),
        ("yes", None, True),
    ],
)
def test_dynamic_config(written: str | None, storage: str | None, dynamic: bool) -> None:
    """What is written holds; else it is yes with a storage section and no without one."""
    lines = ["auth_service:", f"  dynamic_config: {written or ''}", "teleport:", f"  storage: {storage or ''}"]
    assert resolve("\n".join(lines)).dynamic_config is dynamic


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("{type: etcd, peers: []}", r"storage\.peers: expected at least one item, found none"),
        ("{type: etcd, peers: [a], tls_cert_file: /a}", r"tls_cert_file needs tls_key_file"),
        ("{type: etcd, peers: [a], tls_key_file: /a}", r"tls_key_file needs tls_cert_file"),
        ("{type: dynamodb, region: r, table_name: ttt, access_key: a}", r"access_key needs secret_key"),
        ("{type: dynamodb, table_name: ttt}", r"storage\.region: is required"),
        ("{type: dynamodb, region: r, table_name: t}", r"expected a table's name"),
        ("{peers: [a]}", r"storage\.type: is required: sqlite, bolt, dir, etcd or dynamodb"),
        ("{type: [etcd]}", r"storage\.type: expected sqlite, bolt, dir, etcd or dynamodb"),
        (
            "{type: sqlite, region: r}",
            r"storage\.region: does not belong here, but in teleport\.storage of type dynamodb",
        ),
    ],
)
def test_refused(storage: str, message: str) -> None:
    """Halves of pairs, missing keys and keys of another kind are refused."""
    with pytest.raises(InvalidSettings, match=message):
        resolve(f"teleport: {{storage: {storage}}}")
