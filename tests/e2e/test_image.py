"""The container image: what is in it, and that it runs as the chart runs it."""

from __future__ import annotations

import json
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.core.version import __version__
from tests.e2e.kubernetes.node import Cluster
from tests.servers import image

ROOT = Path(__file__).parents[2]
BOUND = 260_000_000
"""Bytes of the archive, which is not compressed; 40 % of it are the base's."""
UID = 65532
BUILD_TOOLS = re.compile(r"(.*-)?(cc|gcc|g\+\+|clang|ld|make|cmake|node|npm|pip\d*|pip3.*|uv|hatch|go|cargo)(-\d+)?")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")
LEFT_BEHIND = re.compile(
    r"etc/pip\.conf|.*\.npmrc|etc/apt/(sources\.list|auth\.conf).*|etc/(resolv\.conf|hostname)|run/.*\.pem"
    r"|(src|build|tests)/.*"
)
START_SECONDS = "60s"


class Image:
    """What the archive holds: the image's settings, and its files, the later layers over the earlier."""

    def __init__(self, archive: Path) -> None:
        self.files: dict[str, tarfile.TarInfo] = {}
        self.ours: dict[str, bytes] = {}
        """The content of what is not the base's."""
        with tarfile.open(archive) as tar:
            (manifest,) = json.loads(_content(tar, tar.getmember("manifest.json")))
            self.names: list[str] = manifest["RepoTags"]
            self.settings: dict[str, Any] = json.loads(_content(tar, tar.getmember(manifest["Config"])))
            for number, layer in enumerate(manifest["Layers"]):
                with tarfile.open(fileobj=tar.extractfile(layer)) as files:
                    for member in files:
                        name = member.name.removeprefix("./")
                        self.files[name] = member
                        if number and member.isfile():
                            self.ours[name] = _content(files, member)

    def programs(self) -> Iterator[str]:
        """Yield the names of what can be run by name."""
        for name, member in self.files.items():
            folder, _, program = name.rpartition("/")
            if folder.endswith("bin") and not member.isdir():
                yield program


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    found = tar.extractfile(member)
    assert found is not None
    return found.read()


@pytest.fixture(scope="module")
def built() -> Image:
    """Return the image of this working tree."""
    return Image(image.archive())


def test_nobody_is_root_unless_told(built: Image) -> None:
    """It runs as a user of its own, by number, with no entry point between a command and its process."""
    settings = built.settings["config"]
    assert settings["User"] == f"{UID}:{UID}"
    assert not settings.get("Entrypoint")
    assert settings["Cmd"] == ["teleport", "start"]
    assert f"teleport:x:{UID}:{UID}::/var/lib/teleport:/usr/sbin/nologin" in built.ours["etc/passwd"].decode().split(
        "\n"
    )
    home = built.files["var/lib/teleport"]
    assert (home.uid, home.gid, stat.S_IMODE(home.mode)) == (UID, UID, 0o700)
    theirs = [name for name, member in built.files.items() if member.uid == UID and name != "var/lib/teleport"]
    assert theirs == []
    for_all = [
        n for n, m in built.files.items() if m.mode & stat.S_IWOTH and not m.issym() and not m.mode & stat.S_ISVTX
    ]
    assert [name for name in for_all if not built.files[name].ischr()] == []


def test_it_is_called_as_the_chart_calls_it(built: Image) -> None:
    """The name is that of the chart's values and appVersion, with no registry before it."""
    assert image.reference() == f"teleport:{__version__}"
    assert built.names[0].removeprefix("docker.io/library/") == image.reference()


def test_the_commands_are_there_and_nothing_to_build_with(built: Image) -> None:
    """teleport, tctl and tsh are programs in the PATH of every shell; no compiler, no pip, and no node is."""
    for command in ("teleport", "tctl", "tsh"):
        assert built.files[f"usr/local/bin/{command}"].mode & 0o111 == 0o111
    programs = set(built.programs())
    assert {"sh", "bash", "teleport"} <= programs
    assert [name for name in programs if BUILD_TOOLS.fullmatch(name)] == []
    packages = [
        name for name in built.files if re.fullmatch(r".*/(site|dist)-packages/(pip|setuptools|hatchling|pytest)", name)
    ]
    assert packages == []


def test_it_is_small() -> None:
    """Its archive stays below a bound."""
    assert image.archive().stat().st_size < BOUND


def test_it_holds_no_secret_and_no_path_of_this_machine(built: Image) -> None:
    """No private key, no settings of package tools, no tests, and nothing that tells where it was built."""
    assert [name for name, content in built.ours.items() if PRIVATE_KEY.search(content)] == []
    here = f"{ROOT}/".encode()
    own = {name: content for name, content in built.ours.items() if not name.startswith("opt/teleport/lib")}
    assert len(own) > 100
    assert [name for name, content in own.items() if here in content or b"/build/" in content] == []
    assert [name for name in built.files if LEFT_BEHIND.fullmatch(name) and not built.files[name].isdir()] == []
    said = json.dumps(built.settings)
    assert "https://" not in said
    assert str(ROOT) not in said


def test_every_module_is_compiled(built: Image) -> None:
    """Python has nothing to compile when it starts, and checks nothing: the file system cannot change."""
    modules = [name for name in built.ours if name.startswith("opt/teleport/app/") and name.endswith(".py")]
    assert len(modules) > 100
    for name in modules:
        folder, _, module = name.rpartition("/")
        compiled = [built.ours[n] for n in built.ours if n.startswith(f"{folder}/__pycache__/{module[:-3]}.")]
        assert len(compiled) == 1, name
        assert int.from_bytes(compiled[0][4:8], "little") == 0b01, name  # PEP 552: by hash, not checked


SECURITY = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
COMMANDS = """
teleport version && tctl version && tsh version || exit 1
python -m teleport_operator; echo "operator ended with $?"
id -u
touch /opt/teleport/x /etc/x /usr/local/bin/x 2>&1 | grep -c 'Read-only file system'
"""
CONFIG = {
    "teleport": {"nodename": "serving", "data_dir": "/var/lib/teleport/data"},
    "auth_service": {"cluster_name": "main"},
    "ssh_service": {"enabled": False},
}
SERVE = f"""
cat >/var/lib/teleport/teleport.yaml <<'END'
{json.dumps(CONFIG)}
END
exec teleport start -c /var/lib/teleport/teleport.yaml --diag-addr=0.0.0.0:3000
"""
TCTL = ("tctl", "-c", "/var/lib/teleport/teleport.yaml")


def pod(name: str, *command: str, **more: object) -> dict[str, object]:
    """Return a pod that runs a command in the image as the chart would, with a folder for its state."""
    container = {
        "name": "main",
        "image": image.reference(),
        "imagePullPolicy": "Never",
        "command": [*command],
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "state", "mountPath": "/var/lib/teleport"}],
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "securityContext": {"fsGroup": UID},
            "containers": [container],
            "volumes": [{"name": "state", "emptyDir": {}}],
        },
    }


@pytest.fixture(scope="module")
def loaded(cluster: Cluster) -> Cluster:
    """Return the cluster with the image in it."""
    assert image.reference() in cluster.load(image.archive())
    return cluster


def test_the_commands_run_without_rights(loaded: Cluster) -> None:
    """As nobody, without a capability and on a read-only file system, each command runs."""
    kubectl = loaded.control_plane.kubectl
    kubectl("create", "-f", "-", document=pod("commands", "sh", "-c", COMMANDS))
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/commands", f"--timeout={START_SECONDS}")
    said = kubectl("logs", "commands").splitlines()
    kubectl("delete", "pod", "commands", "--wait=false")
    versions = [f"{command} {__version__}" for command in ("teleport", "tctl", "tsh")]
    assert said[:3] == versions
    assert said[-3:] == ["operator ended with 2", str(UID), "3"]


def test_a_cluster_serves_on_a_read_only_file_system(loaded: Cluster) -> None:
    """A cluster needs one folder to write to, and take an order by kubectl exec; SIGTERM ends them in order."""
    kubectl = loaded.control_plane.kubectl
    probe = {"httpGet": {"path": "/readyz", "port": 3000}, "periodSeconds": 1}
    kubectl("create", "-f", "-", document=pod("serving", "sh", "-c", SERVE, readinessProbe=probe))
    kubectl("wait", "--for=condition=Ready", "pod/serving", f"--timeout={START_SECONDS}")
    printed = kubectl("exec", "serving", "--", *TCTL, "users", "add", "joe", "joe")
    assert "/web/newuser/" in printed
    kubectl("exec", "serving", "--", "sh", "-c", "kill -TERM 1")
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/serving", f"--timeout={START_SECONDS}")
    kubectl("delete", "pod", "serving", "--wait=false")
