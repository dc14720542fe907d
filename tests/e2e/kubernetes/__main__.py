"""A real Kubernetes by hand: python -m tests.e2e.kubernetes COMMAND.

up [--node]     start one: an API server, or with --node (as root) one that runs pods
env             print what the shell needs to use it; `eval "$(python -m tests.e2e.kubernetes env)"`
status          what runs
load FILE...    import image archives into the node
down            end it and remove its state
build           build what it needs, so that no test's time limit pays for that

It keeps to a folder of its own (--folder) and ends only processes that it started itself.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from tests.e2e.kubernetes import binaries, machine, record
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.kubernetes.node import Cluster
from tests.servers import etcd


def main() -> None:
    """Run one command; exits with 1 and a message when it fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kubernetes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    home = Path(tempfile.gettempdir()) / f"teleport-kubernetes-test-{os.getuid()}"
    parser.add_argument("--folder", type=Path, default=home, help="where its state is (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("--node", action="store_true", help="with a node that runs pods; needs root")
    commands.add_parser("load").add_argument("archives", nargs="+", type=Path, metavar="FILE")
    for name in ("env", "status", "down", "build"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.absolute()
    try:
        match arguments.command:
            case "up":
                up(folder, with_node=arguments.node)
            case "env":
                env(folder)
            case "status":
                status(folder)
            case "load":
                for archive in arguments.archives:
                    print(machine.ctr("images", "import", str(archive)).strip())
            case "down":
                down(folder)
            case "build":
                print(etcd.binary(), binaries.kubernetes(), binaries.coredns(), sep="\n")
    except RuntimeError as error:
        sys.exit(f"{parser.prog}: {error}")


def up(folder: Path, *, with_node: bool) -> None:
    """Start one and leave it running; does nothing where it runs. Raises RuntimeError."""
    if folder.exists():
        if all(record.is_running(process) for process in record.read(folder)):
            print(f"it is up, in {folder}")
            return
        down(folder)
    folder.mkdir(mode=0o700, parents=True)
    if with_node:
        Cluster(folder).start()
    else:
        ControlPlane(folder).start()
    print('up; use it with: eval "$(python -m tests.e2e.kubernetes env)"')


def env(folder: Path) -> None:
    """Print shell commands that set PATH and KUBECONFIG."""
    record.read(folder)
    path = f"{binaries.kubernetes()}:{os.environ['PATH']}"
    print(f"export PATH={shlex.quote(path)} KUBECONFIG={shlex.quote(str(folder / 'admin.conf'))}")


def status(folder: Path) -> None:
    """Print a line for each process."""
    for process in record.read(folder):
        print(f"{process.name:25} {process.pid:8} {'runs' if record.is_running(process) else 'has ended'}")


def down(folder: Path) -> None:
    """End it, and remove its state. Raises RuntimeError for a folder that holds no cluster of ours."""
    processes = record.read(folder)
    with_node = [process for process in processes if process.name == "kubelet"]
    record.kill(with_node)  # first: it would start anew what ends
    if with_node:
        machine.remove_containers()
    record.kill(reversed(processes))
    if with_node:
        machine.restore(folder)
    shutil.rmtree(folder)


main()
