"""`make demo`: it shows the main job, ends by itself where nobody watches, and leaves nothing behind."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from pathlib import Path

from tests.servers.processes import Process

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"


def start(tmp_path: Path) -> Process:
    """Start the demo with a temporary folder of its own."""
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "CI": "true", "TMPDIR": str(tmp_path / "tmp")}
    return Process([sys.executable, DEMO], log=tmp_path / "log", env=env)


def test_it_ends_with_a_command_over_ssh(tmp_path: Path) -> None:
    """From `teleport start` over a node that joins and a declared user to a command on the node; all is gone after."""
    with start(tmp_path) as demo:
        assert demo.wait(timeout=100) == 0, demo.log_tail()
    shown = (tmp_path / "log").read_text()
    steps = [
        "$ teleport start",
        "$ tctl nodes add",
        "$ teleport start --nodename=luna",
        "$ tctl create examples/quickstart/role.yaml",
        "$ tctl create",
        "Signup token has been created",
        "signed up",
        "$ tsh login",
        "$ tsh ls",
        "$ tsh ssh",
        f"I am {getpass.getuser()} on {socket.gethostname()}",
        "That was a command over SSH",
    ]
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_cleans_up(tmp_path: Path) -> None:
    """Interrupted while the cluster runs, it ends the cluster and removes its folder."""
    with start(tmp_path) as demo:
        demo.wait_until(lambda: any((tmp_path / "tmp").glob("*/cluster/teleport.log")), timeout=60)
        demo.signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0, demo.log_tail()
    assert "stopped" in (tmp_path / "log").read_text()
    assert list((tmp_path / "tmp").iterdir()) == []
