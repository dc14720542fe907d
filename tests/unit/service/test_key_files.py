"""key_file, allow_logins and tunnel_addr of auth_service.trusted_clusters, read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.core.errors import InvalidSettings
from runtime.core.resources.authority import AuthorityType
from runtime.pki.export import export_authority
from runtime.pki.keys import generate_key
from runtime.pki.trust import AuthorityKey, Trust
from runtime.service.key_files import MAX_FILE_BYTES, check_foreign, read_trusted_clusters
from runtime.service.sections.auth import TrustedClusterFile

USER = AuthorityKey(AuthorityType.USER, "main", generate_key().public)
HOST = AuthorityKey(AuthorityType.HOST, "main", generate_key().public)
OTHER = AuthorityKey(AuthorityType.HOST, "other", generate_key().public)


def exported(*keys: AuthorityKey, old: bool = False) -> str:
    """Return what tctl auth export prints for these keys."""
    return "".join(f"{export_authority(key, compatible_with_1_0=old)}\n" for key in keys)


def entry(folder: Path, content: str, **more: object) -> TrustedClusterFile:
    """Return an entry of teleport.yaml whose key_file has this content."""
    file = folder / f"{len(list(folder.iterdir()))}.ca"
    file.write_text(content)
    return TrustedClusterFile.model_validate({"key_file": str(file), **more})


def test_an_export_is_a_cluster(tmp_path: Path) -> None:
    """Both keys, logins and tunnel address, as the manual writes them; port 3024 if none is given."""
    (peer,) = read_trusted_clusters(
        [entry(tmp_path, exported(USER, HOST), allow_logins="root, jsmith", tunnel_addr="proxy.main.example")]
    )
    assert (peer.cluster, peer.enabled, peer.role_map) == ("main", True, ())
    assert (peer.user_keys, peer.host_keys) == ((USER.key.line,), (HOST.key.line,))
    assert peer.allow_logins == ("root", "jsmith")
    assert peer.tunnel_addr == "proxy.main.example:3024"


def test_the_old_format_is_read_too(tmp_path: Path) -> None:
    """That of tctl auth export --compat=1.0."""
    (peer,) = read_trusted_clusters([entry(tmp_path, exported(USER, HOST, old=True))])
    assert (peer.user_keys, peer.host_keys) == ((USER.key.line,), (HOST.key.line,))
    assert (peer.tunnel_addr, peer.allow_logins) == ("", ())


@pytest.mark.parametrize(
    ("content", "more", "says", "hint"),
    [
        ("", {}, "it holds no authority", "tctl auth export"),
        ("# only a note\n", {}, "it holds no authority", "tctl auth export"),
        ("ssh-ed25519 AAAA john@laptop\n", {}, "0.ca:1: it starts with 'ssh-ed25519'", "tctl auth export"),
        ("x" * (MAX_FILE_BYTES + 1), {}, "is larger than 65,536 bytes", ""),
        (exported(HOST, OTHER), {}, "holds keys of several clusters: main, other", "an entry and a file of its own"),
        (exported(USER), {}, "holds no host CA", "without --type"),
        (exported(HOST), {"allow_logins": "john"}, "holds no user CA", "without --type"),
        (exported(HOST, AuthorityKey(AuthorityType.USER, "main", HOST.key)), {}, "the same key", "key of its own"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, more: dict[str, str], says: str, hint: str) -> None:
    """The entry, the file, what is wrong with it, and what to do."""
    with pytest.raises(InvalidSettings) as caught:
        read_trusted_clusters([entry(tmp_path, content, **more)])
    assert str(caught.value).startswith("auth_service.trusted_clusters[0].")
    assert str(tmp_path) in str(caught.value)
    assert says in str(caught.value)
    assert hint in caught.value.hint


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named, and where it comes from."""
    missing = TrustedClusterFile.model_validate({"key_file": str(tmp_path / "gone.ca")})
    with pytest.raises(InvalidSettings, match=r"gone\.ca cannot be read: No such file") as caught:
        read_trusted_clusters([missing])
    assert "tctl auth export > FILE" in caught.value.hint


def test_two_entries_of_one_cluster(tmp_path: Path) -> None:
    """A name stands for one cluster."""
    twice = [entry(tmp_path, exported(USER, HOST)), entry(tmp_path, exported(USER, HOST))]
    with pytest.raises(InvalidSettings, match="cluster main is there twice"):
        read_trusted_clusters(twice)


def test_a_cluster_does_not_trust_itself(tmp_path: Path) -> None:
    """Neither by its name nor by one of its keys."""
    peers = read_trusted_clusters([entry(tmp_path, exported(USER, HOST))])
    check_foreign(peers, "cluster-b", Trust([OTHER]))
    with pytest.raises(InvalidSettings, match="cluster main is this very cluster"):
        check_foreign(peers, "main", Trust([OTHER]))
    own = AuthorityKey(AuthorityType.HOST, "cluster-b", HOST.key)
    with pytest.raises(InvalidSettings, match="of cluster main is this cluster's own"):
        check_foreign(peers, "cluster-b", Trust([own]))
