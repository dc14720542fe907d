"""Tests in several processes: who ends them, and what becomes of what they have started."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.parallel import unit
from tests.servers.processes import Process

ROOT = Path(__file__).parents[2]
SERVED = """
import subprocess, time
from pathlib import Path
import pytest

HERE = Path(__file__).parent

@pytest.fixture
def server():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        (HERE / f"started-{process.pid}").touch()
        yield
        time.sleep(8)  # longer than pytest-xdist lets a worker be
        process.kill()
    (HERE / f"ended-{process.pid}").touch()

@pytest.mark.parametrize("number", range(2))
def test_it(server, number):
    time.sleep(600)
"""
DIES = """
import os, signal

def test_it():
    os.kill(os.getpid(), signal.SIGKILL)

def test_another():
    pass
"""


def run(folder: Path, tests: str) -> Process:
    """Run tests in two processes, as the Makefile does."""
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (folder / "test_it.py").write_text(tests)
    options = ("--numprocesses=2", "--max-worker-restart=0", "-p", "no:cacheprovider", "-p", "tests.conftest")
    return Process(
        [sys.executable, "-m", "pytest", *options, f"--basetemp={folder}/temp", "-c", folder / "pytest.ini", folder],
        log=folder / "log",
        env={"PYTHONPATH": str(ROOT)},
        cwd=folder,
    )


def test_who_is_ended_ends_what_was_started(tmp_path: Path) -> None:
    """A CI system that gives up leaves no server of ours behind, though it ends pytest's first process only."""
    with run(tmp_path, SERVED) as running:
        running.wait_until(lambda: len([*tmp_path.glob("started-*")]) == 2, timeout=60)
        (started, another) = (int(path.name.partition("-")[2]) for path in tmp_path.glob("started-*"))
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(timeout=90) == pytest.ExitCode.INTERRUPTED
    assert {path.name for path in tmp_path.glob("ended-*")} == {f"ended-{started}", f"ended-{another}"}


def test_a_worker_that_dies_is_a_failure(tmp_path: Path) -> None:
    """And the end: who is killed for want of memory would be killed again."""
    with run(tmp_path, DIES) as running:
        assert running.wait(timeout=90) != 0
    said = (tmp_path / "log").read_text()
    assert "crashed while running 'test_it.py::test_it'" in said


def test_what_stays_together() -> None:
    """A file does; so does all that needs a machine's names; long tests that share nothing do not."""
    assert unit("tests/unit/test_x.py::test_y[a::b]") == "tests/unit/test_x.py"
    assert unit("tests/e2e/scenarios/test_kills.py::test_y") == unit("tests/e2e/test_image.py::test_y")
    assert unit("tests/e2e/test_operator.py::test_y") != unit("tests/e2e/test_image.py::test_y")
    one, other = "tests/integration/test_faults_kill.py::test_x", "tests/integration/test_faults_kill.py::test_y"
    assert unit(one) != unit(other)
