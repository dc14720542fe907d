"""Pods that die, as they do with the machine below them, while people work."""

from __future__ import annotations

from tests.e2e.scenarios.place import until
from tests.e2e.scenarios.release import Release
from tests.e2e.scenarios.someone import Someone


def test_a_session_outlives_auth(mission: Release, joe: Someone, node: str) -> None:
    """With auth's pod gone a session goes on and new ones begin; auth comes back with all it knew, and has both."""
    (auth,) = mission.wait_pods("auth", 1)
    with joe.shell.terminal("ssh", f"root@{node}") as terminal:
        terminal.type("echo before-$((40+1))\n")
        terminal.expect("before-41")
        mission.kill(auth)
        terminal.type("echo without-$((41+1))\n")
        terminal.expect("without-42")
        done = joe.ssh(f"root@{node}", "echo began without auth")
        assert (done.returncode, done.stdout) == (0, "began without auth\n"), done.stderr
        mission.wait_pods("auth", 1)
        terminal.type("echo after-$((42+1))\n")
        terminal.expect("after-43")
        terminal.type("exit\n")
        assert terminal.wait() == 0
    until(lambda: node in joe.nodes(), "the node is listed again", mission)

    def recorded() -> bool:
        found = mission.tctl("recordings", "search", "after-43").stdout
        return "joe" in found

    until(recorded, "the whole session is recorded", mission)


def test_a_killed_operator_loses_nothing(mission: Release, joe: Someone, node: str) -> None:
    """What is declared while no operator runs is so once there is one again."""
    (auth,) = mission.wait_pods("auth", 1)
    before = restarts(mission, auth)
    mission.kubectl("exec", auth, "-c", "operator", "--", "sh", "-c", "kill -TERM 1")
    mission.kubectl("patch", "user.teleport.internal", "joe", "--type=merge", "-p", '{"spec": {"logins": ["joe"]}}')
    joe.until_refused(f"root@{node}")
    mission.kubectl(
        "patch", "user.teleport.internal", "joe", "--type=merge", "-p", '{"spec": {"logins": ["joe", "root"]}}'
    )
    joe.until_in(f"root@{node}")
    until(lambda: restarts(mission, auth) == before + 1, "the operator was started again", mission)


def restarts(release: Release, pod: str) -> int:
    """Return how often the operator beside auth was started again."""
    statuses = release.get("pod", pod)["status"]["containerStatuses"]
    return next(int(each["restartCount"]) for each in statuses if each["name"] == "operator")
