"""What is changed with kubectl takes effect at once, in sessions of people who notice nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.scenarios.nodes import node_pod
from tests.e2e.scenarios.place import API, Object, until
from tests.e2e.scenarios.release import Release
from tests.e2e.scenarios.someone import Someone, newcomer


def role(name: str, **allow: object) -> Object:
    """Return a document of kind Role."""
    return {"apiVersion": API, "kind": "Role", "metadata": {"name": name}, "spec": {"allow": allow}}


def test_a_changed_role_takes_effect(mission: Release, node: str, tmp_path: Path) -> None:
    """Who is logged in loses access when the role loses the node, and has it again when the role has."""
    mission.apply(role("ops", logins=["root"], nodeLabels={"env": ["staging"]}))
    ann = newcomer(mission, tmp_path, "ann", roles=("ops",))
    where = f"root@{node}"
    ann.until_in(where)
    mission.apply(role("ops", logins=["root"], nodeLabels={"env": ["prod"]}))
    ann.until_refused(where)
    assert node not in ann.nodes()
    mission.apply(role("ops", logins=["root"], nodeLabels={"env": ["staging"]}))
    ann.until_in(where)


def test_a_deleted_user_is_out(mission: Release, node: str, tmp_path: Path) -> None:
    """A certificate that would be good for hours is worth nothing once kubectl has deleted its user."""
    bob = newcomer(mission, tmp_path, "bob", logins=("root",))
    bob.until_in(f"root@{node}")
    mission.kubectl("delete", "user.teleport.internal", "bob", "--timeout=60s")
    assert "no user bob" in bob.until_refused(f"root@{node}")
    assert bob.log_in().returncode == 1


def test_a_rotated_token_lets_new_nodes_in(mission: Release, joe: Someone, lab: str) -> None:
    """With the Secret deleted the operator makes another value: it lets in, and who has the old one waits for it."""
    old = mission.secret(f"{lab}-token", "token", "caPin")
    mission.kubectl("delete", "secret", f"{lab}-token")
    until(lambda: mission.secret(f"{lab}-token", "token")["token"] != old["token"], "a new value", mission)
    mission.ready("token", lab)
    stale = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stale"}, "stringData": old}
    mission.apply(stale, node_pod(mission, "late", "stale"), node_pod(mission, "new", f"{lab}-token"))
    until(lambda: "new" in joe.tsh("ls", "env=lab").stdout, "new is listed", mission)
    joe.until_in("root@new")
    joe.until_in(f"root@{lab}")  # a member needs its token no more
    until(lambda: "may not join the cluster" in mission.kubectl("logs", "late"), "the old one is refused", mission)
    assert "late" not in joe.nodes()
    mission.apply({**stale, "stringData": mission.secret(f"{lab}-token", "token", "caPin")})
    mission.kubectl("annotate", "pod", "late", "touched=yes")  # the kubelet looks at its Secrets now, not in a minute
    until(lambda: "late" in joe.tsh("ls", "env=lab").stdout, "late is listed", mission)
    assert mission.get("pod", "late")["status"]["containerStatuses"][0]["restartCount"] == 0
    mission.kubectl("delete", "pod", "new", "late", "--wait=false")
