"""What a node does to the machine that it runs on, and how that is undone. Needs root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ADDRESS = "10.98.0.1"  # put on lo: reachable from pods, and never leaves the machine
PODS = "10.243.0.0/24"
BRIDGE = "tk8s0"
STATE = Path("/run/teleport-kubernetes-test")  # short: a socket's path ends at 107 bytes
SOCKET = STATE / "containerd.sock"
PROGRAMS = ("conntrack", "containerd", "ctr", "ip", "nft", "runc")
COMMAND_SECONDS = 60.0
_CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def missing_programs() -> list[str]:
    """Return which of the programs that a node needs are not there."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def claim(folder: Path) -> None:
    """Take the machine for the node whose state is in `folder`. Raises RuntimeError when it is taken."""
    try:
        STATE.mkdir(mode=0o700)
    except FileExistsError as error:
        owner = (STATE / "folder").read_text() if (STATE / "folder").exists() else "?"
        raise RuntimeError(
            f"the node of another test cluster runs on this machine, or was killed; its state is in {owner};"
            f" end it with: python -m tests.e2e.kubernetes --folder {owner} down"
        ) from error
    (STATE / "folder").write_text(str(folder))


def prepare(folder: Path) -> None:
    """Give the machine the node's address and let it forward packets; `folder` remembers what was before."""
    (folder / "ip_forward").write_text(_FORWARDING.read_text())
    _FORWARDING.write_text("1")
    command("ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo")


def restore(folder: Path) -> None:
    """Undo all that a node whose state is in `folder` did: mounts, bridge, address, rules, sockets. Safe to repeat."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = line.split()[1]
        if point.startswith((f"{STATE}/", f"{folder}/")):
            attempt("umount", "--lazy", point)
    attempt("ip", "link", "delete", BRIDGE)
    attempt("ip", "address", "delete", f"{ADDRESS}/32", "dev", "lo")
    for family in ("ip", "ip6"):
        attempt("nft", "delete", "table", family, "kube-proxy")
    if (folder / "ip_forward").exists():
        _FORWARDING.write_text((folder / "ip_forward").read_text())
    shutil.rmtree(STATE, ignore_errors=True)


def ctr(*words: str) -> str:
    """Run containerd's own client on the node's containerd, and return what it prints. Raises RuntimeError."""
    return command(*_CTR, *words)


def containerd_answers() -> bool:
    """Return whether the node's containerd serves."""
    return attempt(*_CTR, "version")


def remove_containers() -> None:
    """End all that runs in pods. The kubelet must have ended before, or it would start anew what ends."""
    if containerd_answers():
        for task in ctr("tasks", "list", "--quiet").split():
            attempt(*_CTR, "tasks", "remove", "--force", task)  # it may have ended meanwhile, with its pod's sandbox


def command(*words: str) -> str:
    """Run a program and return what it prints. Raises RuntimeError with what it complained of."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def attempt(*words: str) -> bool:
    """Run what may have nothing to do, and return whether it succeeded."""
    return subprocess.run(words, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode == 0
