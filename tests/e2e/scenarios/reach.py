"""What pods reach: connections that are tried from inside of one, for isolation that is real."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tests.e2e.scenarios.place import Namespace

Target = tuple[str, int]

TRY = """\
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def answers(target):
    try:
        socket.create_connection(tuple(target), 10).close()
    except OSError:
        return False
    return True

targets = json.load(sys.stdin)
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([target for target, found in zip(targets, pool.map(answers, targets)) if found]))
"""
PORTS = (3000, 3001, 3022, 3023, 3024, 3025, 3080)
"""All that auth, operator, proxy and node listen on."""


def reached(place: Namespace, component: str, targets: Iterable[Target]) -> set[Target]:
    """Return to which of these addresses and ports, but its own, a pod of a component gets a TCP connection."""
    pod = place.pods(component)[0]
    others = [target for target in targets if target[0] != pod["status"]["podIP"]]
    command = ("exec", "-i", pod["metadata"]["name"], "-c", component, "--", "python", "-c", TRY)
    return {(host, port) for host, port in json.loads(place.kubectl(*command, document=others))}


def pods_of(place: Namespace, *components: str) -> set[Target]:
    """Return all ports of the pods of these components."""
    pods = [pod for component in components for pod in place.pods(component)]
    return {(pod["status"]["podIP"], port) for pod in pods for port in PORTS}


def services_of(place: Namespace) -> set[Target]:
    """Return all ports of the Services of a release."""
    found = place.get("services")["items"]
    return {(each["spec"]["clusterIP"], port["port"]) for each in found for port in each["spec"]["ports"]}


def at(place: Namespace, component: str, *ports: int) -> set[Target]:
    """Return these ports of a component's pods."""
    return {(host, port) for host, port in pods_of(place, component) if port in ports}
