"""NetworkPolicies, made true by nftables: the controller that the network of our own node lacks, and kind's has.

It knows what the chart, the examples and tests write: peers by labels or by addresses, ports by number or name. What it
does not know it refuses, rather than let it pass. Needs root.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.e2e.kubernetes.api import Api
from tests.e2e.kubernetes.control_plane import ControlPlane

TABLE = "teleport-test-policies"
LOOK_SECONDS = 0.3
COMMAND_SECONDS = 30.0
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"

Object = dict[str, Any]  # Any: as the API server has it


@dataclass(frozen=True)
class Pod:
    """What of a pod policies look at."""

    namespace: str
    labels: Mapping[str, str]
    address: str
    ports: Mapping[str, int]
    """Numbers of the ports that have a name."""


@dataclass(frozen=True)
class World:
    """What a policy's words mean: all pods with an address, and the labels of namespaces."""

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Mapping[str, str]]


class NetworkPolicies:
    """The policies of a cluster of ours; as a context manager it follows them, and the pods, until the end."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._stop = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="policies", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        _nft(f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n")
        if self._failed is not None:
            raise self._failed

    def _follow(self) -> None:
        last = ""
        try:
            with Api(self._plane.url, self._plane.authority.folder) as api:
                while not self._stop.wait(LOOK_SECONDS):
                    policies = api.done("GET", POLICIES)["items"]
                    rules = ruleset(policies, _world(api))
                    if rules != last:
                        _nft(rules)
                        last = rules
        except Exception as error:  # a thread has nobody to raise to: who ends it hears of it
            self._failed = error


def ruleset(policies: Iterable[Object], world: World) -> str:
    """Return the table that takes the place of the one before, in one step (nft(8)).

    A pod that no policy selects for a direction is open in it; else what any of those that do allows goes through.
    Answers always pass, and so does what comes from the node itself: it is not forwarded.
    """
    known = list(policies)
    chains: list[str] = []
    jumps: list[str] = []
    for direction, field, side in (("Egress", "egress", "saddr"), ("Ingress", "ingress", "daddr")):
        for pod in world.pods:
            selecting = [each for each in known if direction in each["spec"]["policyTypes"] and _selects(each, pod)]
            if selecting:
                name = f"{field}-{pod.address.replace('.', '-')}"
                lines = [line for each in selecting for line in _allowed(each, direction, pod, world)]
                chains.append(_chain(name, [*lines, "reject with icmpx admin-prohibited"]))
                jumps.append(f"ip {side} {pod.address} jump {name}")
    hook = "type filter hook forward priority 0; policy accept;"
    chains.append(_chain("forward", [hook, "ct state established,related accept", *jumps]))
    table = f"table inet {TABLE}"
    return "\n".join([f"{table} {{}}", f"delete {table}", f"{table} {{", *chains, "}", ""])


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])


def _allowed(policy: Object, direction: str, pod: Pod, world: World) -> Iterator[str]:
    """Yield rules that end a pod's chain early for what a policy allows."""
    spec, near = policy["spec"], policy["metadata"]["namespace"]
    ingress = direction == "Ingress"
    for rule in spec.get("ingress" if ingress else "egress") or []:
        peers = rule.get("from" if ingress else "to")
        for addresses, others in _peers(peers, near, world):
            where = f"ip {'saddr' if ingress else 'daddr'} {addresses} " if addresses else ""
            for port in _ports(rule.get("ports"), [pod] if ingress else others):
                yield f"{where}{port}return"


def _peers(peers: list[Object] | None, near: str, world: World) -> Iterator[tuple[str, list[Pod]]]:
    """Yield sets of addresses as nft has them, and the pods behind them; no address is any."""
    if not peers:
        yield "", []
        return
    for peer in peers:
        _known(peer, "ipBlock", "podSelector", "namespaceSelector")
        if block := peer.get("ipBlock"):
            _known(block, "cidr")
            yield str(block["cidr"]), []
            continue
        found = [pod for pod in world.pods if _is_peer(peer, near, pod, world)]
        if found:
            yield f"{{ {', '.join(sorted({pod.address for pod in found}))} }}", found


def _is_peer(peer: Object, near: str, pod: Pod, world: World) -> bool:
    """Tell whether a peer that is named by labels includes a pod."""
    if "namespaceSelector" in peer:
        there = _matches(peer["namespaceSelector"], world.namespaces.get(pod.namespace, {}))
    else:
        there = pod.namespace == near
    return there and _matches(peer.get("podSelector", {}), pod.labels)


def _ports(ports: list[Object] | None, pods: list[Pod]) -> Iterator[str]:
    """Yield what matches the ports, by number or by the name that one of the pods has for it."""
    if not ports:
        yield ""
        return
    for each in ports:
        _known(each, "protocol", "port")
        protocol, port = each.get("protocol", "TCP").lower(), each["port"]
        numbers = {port} if isinstance(port, int) else {pod.ports[port] for pod in pods if port in pod.ports}
        for number in sorted(numbers):
            yield f"{protocol} dport {number} "


def _selects(policy: Object, pod: Pod) -> bool:
    near: str = policy["metadata"]["namespace"]
    return pod.namespace == near and _matches(policy["spec"]["podSelector"], pod.labels)


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    _known(selector, "matchLabels")
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return labels.items() >= wanted.items()


def _known(found: Object, *names: str) -> None:
    """Raise ValueError for what is not understood here."""
    if others := found.keys() - {*names}:
        raise ValueError(f"{', '.join(sorted(others))} of a NetworkPolicy is not known here")


def _world(api: Api) -> World:
    pods = []
    for each in api.done("GET", "/api/v1/pods")["items"]:
        spec, status = each["spec"], each["status"]
        if status.get("podIP") and not spec.get("hostNetwork") and status["phase"] in {"Pending", "Running"}:
            declared = [port for container in spec["containers"] for port in container.get("ports", [])]
            ports = {port["name"]: port["containerPort"] for port in declared if "name" in port}
            metadata = each["metadata"]
            pods.append(Pod(metadata["namespace"], metadata.get("labels", {}), status["podIP"], ports))
    named = api.done("GET", "/api/v1/namespaces")["items"]
    return World(tuple(pods), {each["metadata"]["name"]: each["metadata"]["labels"] for each in named})


def _nft(rules: str) -> None:
    """Apply rules in one step. Raises RuntimeError with what nft says."""
    done = subprocess.run(
        ["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"nft: {done.stderr.strip()}\n{rules}")
