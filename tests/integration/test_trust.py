"""A leaf joins its root with a token over HTTPS, or by pinned keys: what each side sees, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceRef
from runtime.api.trust_messages import ClusterName
from runtime.auth.server import AuthOptions
from runtime.core import keys
from runtime.core.errors import InvalidInput, NotFound
from runtime.core.resources import TrustedCluster, decode
from runtime.pki.keys import generate_key
from runtime.proxy.service import ProxyOptions
from runtime.service.values import Address
from tests.servers.programs import run
from tests.servers.trust_pair import PATIENCE, Pair, exported, lines, trust_pair
from tests.servers.webproxy import web_cluster, write_pair


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Yield both clusters."""
    async with trust_pair(tmp_path) as pair:
        yield pair


async def test_a_token_makes_trust_on_both_sides(pair: Pair) -> None:
    """The leaf believes both CAs of the root for what its document says; the root the leaf's host CA, and no user's."""
    created = await pair.token()
    await pair.declare(
        {"token": created.entry.token, "caPin": created.ca_pin},
        allowLogins=["john"],
        roleMap=[{"remote": "admin", "local": ["ops"]}],
    )
    standing = await pair.standing("Trusted")
    assert pair.pin() in standing.fingerprints
    (root,) = await pair.trusted(pair.leaf, bool)
    keys_of_root = lines(pair.root)
    assert (root.cluster, root.tunnel_addr) == ("main", "127.0.0.1:3024")
    assert (root.user_keys, root.host_keys) == (keys_of_root["user"], keys_of_root["host"])
    assert root.allow_logins == ("john",)
    assert [(each.remote, each.local) for each in root.role_map] == [("admin", ("ops",))]
    (leaf,) = await pair.trusted(pair.root, bool)
    assert (leaf.cluster, leaf.tunnel_addr, leaf.user_keys) == ("cluster-b", "", ())
    assert leaf.host_keys == lines(pair.leaf)["host"]
    assert '"event":"trust.begun"' in pair.root.events()
    assert '"event":"trust.begun"' in pair.leaf.events()
    for cluster in (pair.root, pair.leaf):
        assert created.entry.token not in cluster.events()


async def test_the_token_is_forgotten_and_works_once(pair: Pair) -> None:
    """After the exchange the leaf's storage holds it no more, and the root takes it from nobody again."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    shown = await pair.leaf.admin.call(methods.RESOURCES_GET, ResourceRef(kind="TrustedCluster", name="main"))
    assert created.entry.token not in shown.document
    await pair.standing("Trusted")
    async with asyncio.timeout(PATIENCE):
        while True:
            item = await pair.leaf.backend.get(keys.resource("TrustedCluster", "main"))
            means = decode(TrustedCluster, item.value).metadata.means
            assert means is not None
            if not means.has_token:
                break
            await asyncio.sleep(0.02)
    assert created.entry.token.encode() not in item.value
    body = {
        "token": created.entry.token,
        "cluster": "cluster-c",
        "host_keys": [generate_key().public.line],
        "proof": "AAAA",
    }
    async with pair.root.http() as http, http.post("/webapi/trust", json=body) as response:
        assert response.status == 403
        assert "the token is not valid" in (await response.json())["error"]["message"]


async def test_the_same_request_again_is_answered_again(pair: Pair) -> None:
    """An answer that was lost, or a leaf that was killed before it kept it, costs no new token."""
    created = await pair.token()
    values = {"token": created.entry.token, "caPin": created.ca_pin}
    await pair.declare(values)
    await pair.standing("Trusted")
    await pair.leaf.admin.call(methods.RESOURCES_REMOVE, ResourceRef(kind="TrustedCluster", name="main"))
    await pair.trusted(pair.leaf, lambda found: not found)
    await pair.declare(values)
    await pair.standing("Trusted")


async def test_rights_are_edited_live_and_deletion_ends_trust(pair: Pair) -> None:
    """RoleMap and allowLogins change without a new token; disabled or deleted, the root's keys are gone at once."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    await pair.standing("Trusted")
    await pair.declare({}, force=True, allowLogins=["root", "jsmith"])
    (root,) = await pair.trusted(pair.leaf, lambda found: bool(found) and found[0].allow_logins == ("root", "jsmith"))
    assert root.host_keys == lines(pair.root)["host"]
    await pair.declare({}, force=True, enabled=False)
    (root,) = await pair.trusted(pair.leaf, lambda found: bool(found) and not found[0].enabled)
    assert (root.host_keys, root.user_keys) == ((), ())
    await pair.standing("Disabled")
    assert pair.leaf.events().count('"event":"trust.ended"') == 1
    assert "it is disabled: spec.enabled is false" in pair.leaf.events()
    await pair.declare({}, force=True, allowLogins=["john"])
    await pair.standing("Trusted")
    await pair.trusted(pair.leaf, lambda found: found[0].allow_logins == ("john",))
    await pair.leaf.admin.call(methods.RESOURCES_REMOVE, ResourceRef(kind="TrustedCluster", name="main"))
    await pair.trusted(pair.leaf, lambda found: not found)
    async with asyncio.timeout(PATIENCE):
        while (await pair.leaf.backend.range("authority/trusted/")).items:  # noqa: ASYNC110 - in the storage
            await asyncio.sleep(0.02)
        while (await pair.leaf.admin.call(methods.TRUSTED_STATUS, Nothing())).clusters:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    assert pair.leaf.events().count('"event":"trust.ended"') == 2
    assert "its TrustedCluster was deleted" in pair.leaf.events()


async def test_the_root_forgets_a_leaf(pair: Pair) -> None:
    """Tctl auth rm on the root ends its trust; whom it does not know it says so."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    await pair.trusted(pair.root, bool)
    await pair.root.admin.call(methods.TRUSTED_FORGET, ClusterName(name="cluster-b"))
    await pair.trusted(pair.root, lambda found: not found)
    with pytest.raises(NotFound, match="no cluster 'cluster-b' is trusted here"):
        await pair.root.admin.call(methods.TRUSTED_FORGET, ClusterName(name="cluster-b"))


async def test_a_root_is_not_forgotten_but_deleted(pair: Pair) -> None:
    """Tctl auth rm says where a declared root has to be deleted."""
    await pair.declare({"ca": exported(pair.root)})
    await pair.standing("Trusted")
    with pytest.raises(InvalidInput, match="declared by a document") as caught:
        await pair.leaf.admin.call(methods.TRUSTED_FORGET, ClusterName(name="main"))
    assert "tctl rm trusted_cluster/main" in caught.value.hint


async def test_pinned_keys_need_no_exchange(pair: Pair) -> None:
    """With caSecretRef the leaf trusts what is pinned; another pin ends the old trust before the new one is good."""
    await pair.declare({"ca": exported(pair.root)})
    standing = await pair.standing("Trusted")
    assert pair.pin() in standing.fingerprints
    await pair.trusted(pair.leaf, bool)
    await pair.declare({"ca": exported(pair.leaf)}, force=True)
    standing = await pair.standing("KeysInvalid")
    assert "of cluster cluster-b, not of main" in standing.message
    assert not await pair.trusted(pair.leaf, lambda found: not found)
    assert pair.leaf.events().count('"event":"trust.ended"') == 1


@pytest.mark.parametrize(
    ("ca", "says"),
    [
        ("nonsense", "it starts with 'nonsense'"),
        ("# nothing\n", "it holds no authority"),
        ("cert-authority ssh-ed25519 AAAA clustername=main&type=user", ""),
    ],
)
async def test_what_is_no_export_is_not_pinned(pair: Pair, ca: str, says: str) -> None:
    """A Secret with something else is told of with its name and line, and trusts nobody."""
    await pair.declare({"ca": ca})
    standing = await pair.standing("KeysInvalid")
    assert "Secret join, ca" in standing.message
    assert says in standing.message
    assert not (await pair.leaf.admin.call(methods.TRUSTED_LIST, Nothing())).clusters


async def test_both_authorities_are_needed(pair: Pair) -> None:
    """A host CA alone would make servers known and no users: it is refused, with what to do."""
    host = exported(pair.root).splitlines()[1]
    await pair.declare({"ca": host})
    assert "it holds no user CA" in (await pair.standing("KeysInvalid")).message


async def test_a_wrong_token_is_told_on_both_sides(pair: Pair) -> None:
    """The leaf's status says what to do, the root's log who asked; it is not tried again with the same token."""
    await pair.declare({"token": "f" * 32, "caPin": pair.pin()})
    standing = await pair.standing("TokenRefused")
    assert "cluster main refused: the token is not valid" in standing.message
    assert "tctl tokens add --type=trusted_cluster" in standing.message
    assert pair.root.events().count('"event":"trust.refused"') == 1
    assert '"cluster":"cluster-b"' in pair.root.events()
    assert '"event":"trust.refused"' in pair.leaf.events()


async def test_a_nodes_token_makes_no_leaf(pair: Pair) -> None:
    """A token lets in what it is for."""
    created = await pair.token(roles=("node",))
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    assert "only as node" in (await pair.standing("TokenRefused")).message
    assert not (await pair.root.admin.call(methods.TRUSTED_LIST, Nothing())).clusters


async def test_a_clusters_token_makes_no_member(pair: Pair) -> None:
    """And the other way round: nobody joins the root itself with it; it is used once, whatever it was made with."""
    created = await pair.token()
    listed = (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens
    assert [entry.roles for entry in listed] == [("trusted_cluster",)]
    with pytest.raises(Exception, match="lets nobody join as node"):
        await pair.root.auth._tokens.redeem(created.entry.token, ("node",))


async def test_another_pin_keeps_the_token_at_home(pair: Pair) -> None:
    """Where the proxy cannot prove to be of the pinned CA nothing is sent, and the token stays good."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": generate_key().public.fingerprint})
    standing = await pair.standing("PinMismatch")
    assert "did not prove to be of the cluster with the pinned CA" in standing.message
    listed = (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens
    assert [entry.token for entry in listed] == [created.entry.token]
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin}, force=True)
    await pair.standing("Trusted")


async def test_without_a_pin_the_certificate_has_to_be_good(pair: Pair) -> None:
    """A self-signed HTTPS certificate is not believed: the token stays at home, and the status says what to add."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token})
    standing = await pair.standing("ProxyNotTrusted")
    assert "caPin" in standing.message
    assert (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens


async def test_the_root_must_be_who_the_document_names(pair: Pair) -> None:
    """A TrustedCluster of another name than the root's trusts nobody, and the token stays good."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin}, name="other")
    standing = await pair.standing("NameMismatch", name="other")
    assert "is of cluster main, not of other" in standing.message
    assert (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens


async def test_nobody_at_the_address(pair: Pair) -> None:
    """A port where nobody listens, and one that is no proxy, are told apart; it is tried on."""
    await pair.declare(
        {"token": "f" * 32, "caPin": pair.pin()}, proxy={"webAddr": "127.0.0.1:1", "tunnelAddr": "127.0.0.1:3024"}
    )
    assert "cannot be reached" in (await pair.standing("Unreachable")).message


async def test_a_cluster_does_not_trust_itself(pair: Pair) -> None:
    """Neither by its own name in a document, nor by a root that shows it its own token."""
    with pytest.raises(InvalidInput, match="cannot trust itself"):
        await pair.declare({"ca": exported(pair.leaf)}, name="cluster-b")


async def test_no_secret_no_trust(pair: Pair) -> None:
    """A document whose Secret was not given is kept, and says what it lacks."""
    await pair.declare({})
    assert "its Secret join was not given" in (await pair.standing("SecretNotFound")).message


async def test_a_second_leaf_of_one_name_is_refused(pair: Pair, tmp_path: Path) -> None:
    """The name is the first's: the other is told, keeps its token, and the first stays trusted by its own keys."""
    first = await pair.token()
    await pair.declare({"token": first.entry.token, "caPin": first.ca_pin})
    await pair.standing("Trusted")
    (tmp_path / "second").mkdir()
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="cluster-b")
    async with web_cluster(tmp_path / "second", auth=options) as second:
        other = Pair(pair.root, second)
        token = await other.token()
        await other.declare({"token": token.entry.token, "caPin": token.ca_pin})
        standing = await other.standing("NameTaken")
        assert "a cluster cluster-b is known here already, by another CA" in standing.message
        assert "tctl auth rm cluster-b" in standing.message
        assert (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens
    (leaf,) = (await pair.root.admin.call(methods.TRUSTED_LIST, Nothing())).clusters
    assert leaf.host_keys == lines(pair.leaf)["host"]


async def test_a_leaf_called_as_the_root_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Two clusters of one name cannot know each other: the leaf sees it in its own document."""
    (tmp_path / "same").mkdir()
    async with web_cluster(tmp_path / "same") as same:
        other = Pair(pair.root, same)
        created = await other.token()
        with pytest.raises(InvalidInput, match="cannot trust itself"):
            await other.declare({"token": created.entry.token, "caPin": created.ca_pin})


async def test_curl_is_told_what_is_wrong(pair: Pair) -> None:
    """From outside: what is no request of a leaf is a 400 or 403 in words, and no key of the root's is told."""
    pem = pair.root.pem
    for body, says in (
        ("{}", "token"),
        ("[", "JSON"),
        (json.dumps({"token": "x" * 32, "cluster": "a/b", "host_keys": ["k"], "proof": ""}), "key"),
    ):
        kind, url = "Content-Type: application/json", f"{pair.root.base}/webapi/trust"
        status, output = await run("curl", "-sS", "--cacert", pem, "-H", kind, "-d", body, url)
        assert status == 0
        assert says in output
        assert lines(pair.root)["user"][0].split()[1] not in output
    status, output = await run("curl", "-sS", "--cacert", pem, f"{pair.root.base}/webapi/trust?nonce=short")
    assert "expected 32 lower-case hex digits" in output


async def test_a_proxy_with_a_certificate_of_the_machine_needs_no_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine trusts the HTTPS certificate, the token alone is enough."""
    (tmp_path / "root").mkdir()
    (tmp_path / "leaf").mkdir()
    cert_file, key_file = write_pair(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    proxy = replace(
        ProxyOptions(web_address=Address("127.0.0.1", 0), data_dir=tmp_path, names=("localhost",)),
        https_cert_file=cert_file,
        https_key_file=key_file,
    )
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="cluster-b")
    async with (
        web_cluster(tmp_path / "root", proxy=proxy) as root,
        web_cluster(tmp_path / "leaf", auth=options) as leaf,
    ):
        pair = Pair(root, leaf)
        await pair.declare({"token": (await pair.token()).entry.token})
        await pair.standing("Trusted")
