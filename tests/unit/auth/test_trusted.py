"""What documents, records and teleport.yaml come to together: which clusters are trusted, and for what."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from runtime.api.trust_messages import TrustedClusters, TrustedPeer
from runtime.auth.trusted import compose, given, is_trusted, leaves, roots
from runtime.auth.trusted_means import Means, without_token
from runtime.auth.trusted_record import Side, TrustedRecord, decode_record, encode_record, new_record
from runtime.core.errors import CorruptState, InvalidInput
from runtime.core.resources import TrustedCluster, encode, load_documents
from runtime.core.resources.trusted_cluster import means_of
from runtime.pki.keys import generate_key
from runtime.pki.sealed_token import token_in
from runtime.pki.sealing import SealingKey

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
HOST, USER = generate_key().public, generate_key().public
TOKEN = {"token": "0123456789abcdef", "caPin": HOST.fingerprint}


def document(name: str = "main", values: dict[str, str] | None = None, **spec: object) -> TrustedCluster:
    """Return a TrustedCluster with what its Secret holds, by default a token with the right pin."""
    values = TOKEN if values is None else values
    ref = "caSecretRef" if "ca" in values else "tokenSecretRef"
    text = json.dumps(
        {
            "apiVersion": "teleport.internal/v1",
            "kind": "TrustedCluster",
            "metadata": {"name": name},
            "spec": {"proxy": {"webAddr": "p:3080", "tunnelAddr": "p:3024"}, ref: {"name": "join"}, **spec},
        }
    )
    (cluster,) = load_documents(text, source="test")
    assert isinstance(cluster, TrustedCluster)
    value = cluster.means_in(values)
    return cluster if value is None else cluster.given(means_of(value))


def record(name: str = "main", side: Side = Side.ROOT, *, means: str = "", host: str = HOST.line) -> TrustedRecord:
    """Return a record, by default of the root, made by the document's token."""
    known = document().metadata.means
    assert known is not None
    users = (USER.line,) if side is Side.ROOT else ()
    return new_record(name, side, host_keys=(host,), user_keys=users, means=means or known.digest, now=NOW)


def of(*, file: tuple[TrustedPeer, ...] = (), own_keys: tuple[str, ...] = (), **named: object) -> list[TrustedPeer]:
    """Return what a cluster `cluster-b` trusts."""
    documents = {each.name: each for each in named.values() if isinstance(each, TrustedCluster)}
    records = {each.cluster: each for each in named.values() if isinstance(each, TrustedRecord)}
    return list(compose("cluster-b", own_keys, given(file, documents, records), {}))


def test_a_root_is_its_document_and_its_record() -> None:
    """Keys from the record, everything else from the document."""
    (peer,) = of(a=document(allowLogins=["john"], roleMap=[{"remote": "a", "local": ["b"]}]), b=record())
    assert (peer.host_keys, peer.user_keys, peer.tunnel_addr) == ((HOST.line,), (USER.line,), "p:3024")
    assert peer.allow_logins == ("john",)
    assert [(each.remote, each.local) for each in peer.role_map] == [("a", ("b",))]
    assert list(roots(TrustedClusters(clusters=(peer,)))) == ["main"]
    assert not leaves(TrustedClusters(clusters=(peer,)))


def test_neither_alone_is_trust() -> None:
    """A record whose document was deleted means nothing, even if nobody has tidied up; nor does a document alone."""
    assert of(a=record()) == []
    assert of(a=document()) == []
    assert of(a=document(values={}), b=record()) == []


def test_disabled_is_known_and_not_trusted() -> None:
    """It is in the list, without a key."""
    (peer,) = of(a=document(enabled=False, allowLogins=["john"]), b=record())
    assert (peer.enabled, peer.host_keys, peer.user_keys, peer.allow_logins) == (False, (), (), ())


def test_a_leaf_gets_nobody_in() -> None:
    """Of a leaf's record only its host CA is taken, and no tunnel goes there."""
    (peer,) = of(a=record("leaf", Side.LEAF))
    assert (peer.host_keys, peer.user_keys, peer.tunnel_addr, peer.allow_logins) == ((HOST.line,), (), "", ())
    assert list(leaves(TrustedClusters(clusters=(peer,)))) == ["leaf"]
    assert not roots(TrustedClusters(clusters=(peer,)))


def test_a_document_counts_before_the_file() -> None:
    """teleport.yaml is where a cluster begins; a TrustedCluster of the name takes its place, also a disabled one."""
    file = (TrustedPeer(cluster="main", host_keys=("x",), user_keys=("y",), allow_logins=("root",)),)
    (peer,) = of(file=file)
    assert peer.model_copy(update={"base": ""}) == file[0]
    (peer,) = of(file=file, a=document(allowLogins=["john"]), b=record())
    assert peer.allow_logins == ("john",)
    (peer,) = of(file=file, a=document(enabled=False), b=record())
    assert not peer.enabled
    assert of(file=file, a=document()) == []


def test_a_cluster_is_not_its_own_other() -> None:
    """Our name, or a key of ours as another's, is left out wherever it comes from."""
    assert of(a=document("cluster-b"), b=record("cluster-b")) == []
    assert of(a=record("leaf", Side.LEAF), own_keys=(HOST.line,)) == []
    assert of(a=document(), b=record(), own_keys=(USER.line,)) == []


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (TOKEN, True),
        ({**TOKEN, "token": "another-token-of-it"}, True),  # while the new one is shown, the old trust goes on
        ({"token": TOKEN["token"]}, True),
        ({**TOKEN, "caPin": generate_key().public.fingerprint}, False),  # whoever changes the pin means it at once
        ({"ca": "other keys"}, False),
    ],
)
def test_what_a_changed_secret_ends(values: dict[str, str], kept: bool) -> None:
    """Another token renews trust, another pin or pinned keys end it."""
    assert is_trusted(document(values=values), record()) is kept


def test_a_leafs_record_is_no_roots() -> None:
    """The same name on the other side is another thing."""
    assert not is_trusted(document(), record(side=Side.LEAF))


def test_records_are_read_back_and_bad_ones_refused() -> None:
    """What cannot be read is said without its content."""
    assert decode_record(encode_record(record())) == record()
    for value in (b"{}", b"[", b'{"version": 2}'):
        with pytest.raises(CorruptState, match="cannot be read"):
            decode_record(value)


def test_the_token_is_written_with_the_document_and_shown_to_nobody() -> None:
    """The API takes it from what it shows; the digest stays, by which another Secret is told."""
    key = SealingKey.new()
    complete = Means(json.dumps(TOKEN, sort_keys=True), own="cluster-b", public=key.public)
    bare = document(values={})
    written = complete(bare, None)
    assert isinstance(written, TrustedCluster)
    assert b"0123456789abcdef" not in encode(written)
    assert written.metadata.means is not None
    assert token_in(written.metadata.means, key, cluster="main") == TOKEN["token"]
    for stored in (written, document()):  # the second as an earlier version left it
        shown = without_token(encode(stored))
        assert b"0123456789abcdef" not in shown
        assert set(json.loads(shown)["metadata"]["means"]) == {"digest", "caPin"}
    assert without_token(encode(bare)) == encode(bare)
    assert Means(None, own="cluster-b")(bare, written) == written
    with pytest.raises(InvalidInput, match="cannot trust itself"):
        Means(None, own="main")(bare, None)
    with pytest.raises(InvalidInput, match="did not arrive"):
        Means("nonsense", own="cluster-b", public=key.public)(bare, None)
