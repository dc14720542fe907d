"""`helm upgrade` below people who work."""

from __future__ import annotations

from tests.e2e.scenarios.place import until
from tests.e2e.scenarios.release import Release
from tests.e2e.scenarios.someone import Someone


def test_an_upgrade_keeps_sessions(mission: Release, joe: Someone, lab: str) -> None:
    """Auth and the proxy are replaced below a session to a node that is not: it goes on, through the old proxy."""
    old = {component: mission.wait_pods(component, 1) for component in ("auth", "proxy")}
    with joe.shell.terminal("ssh", f"root@{lab}") as terminal:
        terminal.type("echo before-$((40+1))\n")
        terminal.expect("before-41")
        changed = {"podAnnotations": {"example": "changed"}}
        mission.upgrade({"auth": changed, "proxy": changed})
        for component, names in old.items():
            but = names if component == "proxy" else ()
            until(lambda: annotated(mission, component), f"{component} is replaced", mission)  # noqa: B023 - called here
            mission.wait_pods(component, 1, but=but)
        terminal.type("echo through-$((41+1))\n")
        terminal.expect("through-42")
        assert joe.ssh(f"root@{lab}", "true").returncode == 0
        terminal.type("exit 6\n")
        assert terminal.wait() == 6
    mission.kubectl("wait", "--for=delete", f"pod/{old['proxy'][0]}", "--timeout=60s")


def annotated(release: Release, component: str) -> bool:
    """Return whether all pods of a component are those of the upgrade."""
    return all("example" in each["metadata"].get("annotations", {}) for each in release.pods(component))
