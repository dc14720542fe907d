"""Two clusters in this process that do not know each other yet: the root `main` and the leaf `cluster-b`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceDocument
from runtime.api.token_messages import TokenCreated, TokenRequest
from runtime.api.trust_messages import TrustedPeer, TrustStanding
from runtime.auth.server import AuthOptions
from runtime.core.resources import TrustedCluster, dump, load_documents
from runtime.pki.export import export_authority
from runtime.pki.trust import keys_of
from tests.servers.webproxy import WebCluster, web_cluster

PATIENCE = 30
NAMED = "main"


@dataclass
class Pair:
    """The root `main` and the leaf `cluster-b`, both running, that do not know each other."""

    root: WebCluster
    leaf: WebCluster

    async def token(self, **changes: object) -> TokenCreated:
        """Have the root make a token for a cluster."""
        request = {"roles": ("trusted_cluster",), **changes}
        return await self.root.admin.call(methods.TOKENS_CREATE, TokenRequest.model_validate(request))

    def pin(self) -> str:
        """Return the fingerprint of the root's host CA."""
        return self.root.auth.issuer.authorities.host.signer.public.key.fingerprint

    async def declare(
        self, values: dict[str, str], *, name: str = NAMED, force: bool = False, **spec: object
    ) -> TrustedCluster:
        """Declare a TrustedCluster on the leaf as tctl does, with what its Secret holds."""
        means = "tokenSecretRef" if "token" in values or not values else "caSecretRef"
        document = {
            "apiVersion": "teleport.internal/v1",
            "kind": "TrustedCluster",
            "metadata": {"name": name},
            "spec": {
                "proxy": {"webAddr": f"127.0.0.1:{self.root.port}", "tunnelAddr": "127.0.0.1:3024"},
                means: {"name": "join"},
                **spec,
            },
        }
        (cluster,) = load_documents(json.dumps(document), source="test")
        assert isinstance(cluster, TrustedCluster)
        value = cluster.means_in(values)
        request = ResourceDocument(
            document=dump(cluster), overwrite=force, value=None if value is None else SecretStr(value)
        )
        await self.leaf.admin.call(methods.RESOURCES_WRITE, request)
        return cluster

    async def standing(self, reason: str, *, name: str = NAMED) -> TrustStanding:
        """Wait until the leaf says that it stands so with a TrustedCluster."""
        async with asyncio.timeout(PATIENCE):
            while True:
                told = (await self.leaf.admin.call(methods.TRUSTED_STATUS, Nothing())).clusters
                found = [each for each in told if each.name == name]
                if found and found[0].reason == reason:
                    return found[0]
                await asyncio.sleep(0.02)

    async def trusted(self, cluster: WebCluster, fits: Callable[[tuple[TrustedPeer, ...]], bool]) -> list[TrustedPeer]:
        """Wait until what a cluster trusts fits."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = (await cluster.admin.call(methods.TRUSTED_LIST, Nothing())).clusters
                if fits(found):
                    return list(found)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def trust_pair(folder: Path) -> AsyncIterator[Pair]:
    """Yield both clusters, running, with their files in a folder."""
    for name in ("root", "leaf"):
        (folder / name).mkdir()
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="cluster-b")
    async with web_cluster(folder / "root") as root, web_cluster(folder / "leaf", auth=options) as leaf:
        yield Pair(root, leaf)


def exported(cluster: WebCluster) -> str:
    """Return what `tctl auth export` prints on a cluster."""
    authorities = cluster.auth.issuer.authorities
    found = [*keys_of(authorities.user.public), *keys_of(authorities.host.public)]
    return "".join(f"{export_authority(key)}\n" for key in found)


def lines(cluster: WebCluster) -> dict[str, tuple[str, ...]]:
    """Return the keys of a cluster's CAs."""
    authorities = cluster.auth.issuer.authorities
    return {
        "user": (authorities.user.signer.public.key.line,),
        "host": (authorities.host.signer.public.key.line,),
    }
