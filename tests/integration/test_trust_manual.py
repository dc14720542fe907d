"""The manual's way to trusted clusters: exported keys, teleport.yaml, a restart, and the manual's tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.teleport import Teleport

JOHN = {"allow_logins": "john", "tunnel_addr": "127.0.0.1:1"}


def words(text: str) -> list[list[str]]:
    """Return a table as the words of its lines."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip()]


def ended(teleport: Teleport, *arguments: str) -> str:
    """Run tctl, which must succeed, and return what it prints."""
    done = teleport.tctl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[tuple[Teleport, Teleport]]:
    """Yield auth of `main` and of `cluster-b`, which have been started once and export their keys to files."""
    main, other = Teleport(tmp_path / "main"), Teleport(tmp_path / "b", cluster="cluster-b")
    with main, other:
        main.launch()
        other.start()
        main.wait_for_log("ready: ")
        for teleport in (main, other):
            (teleport.folder / "export.ca").write_text(ended(teleport, "auth", "export"))
        yield main, other


def trusting(teleport: Teleport, other: Teleport, **more: object) -> None:
    """Write the other cluster's keys into teleport.yaml, and restart."""
    teleport.stop()
    entry = {"key_file": str(other.folder / "export.ca"), **more}
    teleport.configure({"auth_service": {"trusted_clusters": [entry]}})
    teleport.start()


def test_the_manuals_tables(clusters: tuple[Teleport, Teleport]) -> None:
    """What tctl auth ls and tctl get roles show on both sides; logins are changed in the file, with a restart."""
    main, cluster_b = clusters
    trusting(main, cluster_b)
    trusting(cluster_b, main, **JOHN)
    own, _, trusted = ended(cluster_b, "auth", "ls").partition("CA Keys for Trusted Clusters:")
    assert own.startswith("CA keys for the local cluster cluster-b:\n")
    table = words(trusted)
    assert table[0] == ["Cluster Name", "CA Type", "Fingerprint", "Allowed Logins"]
    keys_of_main = {row[0]: row[1] for row in words(ended(main, "auth", "ls").partition("CA Keys for Trusted")[0])[1:]}
    assert table[2:] == [
        ["main", "user", keys_of_main["user"], "john"],
        ["main", "host", keys_of_main["host"], "N/A"],
    ]
    roles = words(ended(cluster_b, "get", "roles"))
    assert roles[0] == ["Role", "Allowed to login as", "Namespaces", "Node Labels", "Access to resources"]
    rules = "auth_server:read,cert_authority:read,node:read,session:read,tunnel:read"
    assert roles[2:] == [["ca:main", "john", "default", "<all nodes>", rules]]
    trusting(cluster_b, main, allow_logins="root, jsmith", tunnel_addr="127.0.0.1:1")
    assert words(ended(cluster_b, "get", "roles"))[2][:2] == ["ca:main", "root,jsmith"]
    # On the root nobody of the leaf may be anybody: the manual's table has an empty column there.
    assert words(ended(main, "get", "roles"))[2] == ["ca:cluster-b", "default", "<all nodes>", rules]
    # Without the entry trust is over at the next start: dynamic_config is no where there is no section storage.
    cluster_b.stop()
    cluster_b.configure({"auth_service": {"trusted_clusters": []}})
    cluster_b.start()
    assert "main" not in ended(cluster_b, "auth", "ls").partition("CA Keys for Trusted")[2]
    # A cluster that trusts itself does not start.
    cluster_b.stop()
    itself = [{"key_file": str(cluster_b.folder / "export.ca")}]
    cluster_b.configure({"auth_service": {"trusted_clusters": itself}})
    cluster_b.launch()
    assert cluster_b.wait() == 1
    assert "cluster cluster-b is this very cluster, which cannot trust itself" in cluster_b.log()
