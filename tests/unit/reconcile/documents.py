"""Documents to reconcile, and a memory to reconcile them in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from runtime.backend.documents import BackendDocuments
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.resources import Origin, Resource, Role, Token, TrustedCluster, User, encode, key_of, read_object
from runtime.reconcile import Desired, Owner, Plan, observe, plan

NOW = datetime(2026, 11, 23, 1, tzinfo=UTC)
CLOCK = ManualClock(NOW)
TCTL = Owner(Origin.TCTL)
TEAM = Owner(Origin.KUBERNETES, "team")
ADOPT: dict[str, object] = {"annotations": {"teleport.internal/adopt": "true"}}
AnyResource = TypeVar("AnyResource", bound=Resource)
VALUE = "correct-horse-battery"


def _read(kind: str, name: str, spec: dict[str, object], metadata: dict[str, object]) -> Resource:
    data = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    return read_object(data, source="test")


def user(name: str = "joe", *logins: str, roles: tuple[str, ...] = (), spec: object = None, **metadata: object) -> User:
    """Return a document of kind User."""
    more = spec if isinstance(spec, dict) else {}
    found = _read("User", name, {"logins": list(logins or (name,)), "roles": list(roles), **more}, metadata)
    assert isinstance(found, User)
    return found


def role(name: str = "dev", *logins: str, **metadata: object) -> Role:
    """Return a document of kind Role."""
    found = _read("Role", name, {"allow": {"logins": list(logins)}}, metadata)
    assert isinstance(found, Role)
    return found


def token(name: str = "web", **spec: object) -> Token:
    """Return a document of kind Token."""
    found = _read("Token", name, {"roles": ["node"], **spec}, {})
    assert isinstance(found, Token)
    return found


def trusted_cluster(name: str = "main", *local: str) -> TrustedCluster:
    """Return a document of kind TrustedCluster whose admins have roles here."""
    spec: dict[str, object] = {"proxy": {"tunnelAddr": "main:3024"}, "caSecretRef": {"name": "main-ca"}}
    if local:
        spec["roleMap"] = [{"remote": "admin", "local": list(local)}]
    found = _read("TrustedCluster", name, spec, {})
    assert isinstance(found, TrustedCluster)
    return found


def placed(resource: AnyResource, namespace: str | None, *, adopt: bool = False) -> AnyResource:
    """Return the document in a namespace, and asking to adopt what another declared."""
    metadata = {"namespace": namespace, **(ADOPT if adopt else {})}
    return resource.model_copy(update={"metadata": resource.metadata.model_copy(update=metadata)})


def desired(*resources: Resource, value: str | None = VALUE) -> list[Desired]:
    """Return documents, the tokens among them with a value."""
    return [Desired(each, value if isinstance(each, Token) else None) for each in resources]


class World:
    """A backend with what somebody declared in it."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(clock=CLOCK)
        self.documents = BackendDocuments(self.backend)

    async def put(self, *resources: Resource, origin: Origin | None) -> None:
        """Write resources as an origin does that asks nobody."""
        for resource in resources:
            await self.backend.put(key_of(resource), encode(resource.with_origin(origin)))

    async def plan(self, *resources: Resource, owner: Owner = TCTL, prune: bool = False) -> Plan:
        """Return the plan for these documents."""
        return plan(desired(*resources), await observe(self.documents), owner, now=CLOCK.now(), prune=prune)

    async def stored(self) -> dict[str, bytes]:
        """Return all that the backend holds, by key."""
        return {item.key: item.value for item in (await self.backend.range("resources/")).items}
