"""Every example in examples/, applied as it stands, does what its comments say."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest
import yaml

from tests.e2e.scenarios.place import API, Object, until
from tests.e2e.scenarios.release import Release
from tests.e2e.scenarios.someone import Someone
from tests.servers import image

EXAMPLES = Path(__file__).parents[3] / "examples"
OTHERS = {
    "kind": "values of the chart",
    "systemd": "not for Kubernetes",
    "pod": "has a test of its own",
    "trusted-cluster": "test_two_clusters.py",
}
FOLDERS = sorted(each.name for each in EXAMPLES.iterdir() if each.name not in OTHERS)


def documents(folder: Path) -> list[Object]:
    """Return what the files of a folder hold."""
    files = sorted(each for each in folder.glob("*.yaml") if each.name != "kustomization.yaml")
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def commands(folder: Path) -> list[str]:
    """Return the kubectl commands that the comments of a folder tell to type."""
    lines = [line for file in sorted(folder.glob("*.yaml")) for line in file.read_text().splitlines()]
    return [line.removeprefix("#").partition("  #")[0].strip() for line in lines if line.startswith("#   kubectl ")]


def follow(release: Release, folder: Path) -> None:
    """Type the commands of an example in the release's namespace, or apply it where its comments have none."""
    typed = commands(folder) or [f"kubectl apply -f examples/{folder.name}"]
    for command in typed:
        if "get" in command.split():
            continue  # looks at what `ready` waits for
        words = command.replace("kubectl ", f"kubectl --namespace={release.name} ", 1)
        release.kubernetes.done("sh", "-c", f"cd '{EXAMPLES.parent}' && {words}")


@pytest.mark.parametrize("name", FOLDERS)
def test_an_example_becomes_true(mission: Release, joe: Someone, node: str, tmp_path: Path, name: str) -> None:
    """What it declares becomes Ready on the cluster that the quickstart made, and serves what it is for."""
    folder = EXAMPLES / name
    for each in documents(folder):
        if each["kind"] == "Token":  # that of the quickstart was good for five minutes from the first scenario on
            mission.kubectl("delete", "token.teleport.internal", each["metadata"]["name"], "--ignore-not-found")
    follow(mission, folder)
    for each in documents(folder):
        if each["apiVersion"] == API:
            mission.ready(each["kind"].lower(), each["metadata"]["name"])
    if name == "machine":
        the_machine_logs_in(mission, node, tmp_path / "bot")


def test_a_pod_is_a_node_until_it_is_deleted(mission: Release, joe: Someone) -> None:
    """People log in to the example's pod, by the labels of its token; deleted, it is gone from the list at once."""
    follow(mission, EXAMPLES / "pod")
    until(lambda: "shop" in joe.tsh("ls", "app=shop,env=staging").stdout, "shop is listed", mission)
    done = joe.ssh("root@shop", "hostname")
    assert (done.returncode, done.stdout) == (0, "shop\n"), done.stderr
    mission.kubectl("delete", "-f", EXAMPLES / "pod", "--wait=false")
    # Its silence alone would take it from the list after a minute.
    until(lambda: "shop" not in joe.tsh("ls", "app=shop").stdout, "shop is gone from the list", mission, seconds=30)


def the_machine_logs_in(mission: Release, node: str, home: Path) -> None:
    """Log in with what the machine's Secret holds, and run its command on every node with a label."""
    login = mission.secret("ci-bot-login", "password", "otpSecret")
    bot = Someone(mission, "ci-bot", home, [pyotp.TOTP(login["otpSecret"])], login["password"])
    done = bot.log_in()
    assert done.returncode == 0, done.stderr
    done = bot.ssh("root@env=staging,team=web", "hostname")
    assert done.returncode == 0, done.stderr
    assert node in done.stdout
    assert not mission.get("secrets", "--field-selector=metadata.name=ci-bot-invite")["items"]


def test_the_image_of_the_example_is_current() -> None:
    """The example names the image of this version."""
    pods = [each for each in documents(EXAMPLES / "pod") if each["kind"] == "Pod"]
    assert {each["image"] for pod in pods for each in pod["spec"]["containers"]} == {image.reference()}
