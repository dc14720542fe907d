"""What holds for every tier of the tests."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.parallel import ByUnit, long_first

WORKER_ENDS_SECONDS = 60.0
"""How long a worker may take to end the servers it has started."""


def pytest_configure(config: pytest.Config) -> None:
    """End as on Ctrl-C when somebody ends us, `timeout` or a CI system: the servers that tests have started end too.

    Ctrl-C itself is ignored by what a shell has put into the background, and by all that this starts in turn: programs
    that are to be interrupted by a test would not notice.
    """
    ended = _end_once if hasattr(config, "workerinput") else signal.default_int_handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    # Nor would a shell that ssh started for its ProxyCommand notice that ssh has ended, below nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # How long an example takes says something of what else the machine does, not of the code.
    settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("ours")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Name failures as they happen, where there is a terminal for it; at pytest_configure there is none yet."""
    if terminal := session.config.pluginmanager.get_plugin("terminalreporter"):
        session.config.pluginmanager.register(_Failures(terminal))


class _Failures:
    """Names each failure when it happens: what led to it is told at the end, which another test may never let come."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write one line."""
        if report.failed:
            self._terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}, after {report.duration:.0f} s)")


def _end_once(number: int, frame: FrameType | None) -> None:
    """End a worker. A terminal's Ctrl-C comes to it twice, and the second is not to cut its cleaning up."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)  # not SIG_IGN, which programs that are started from here on would inherit
    signal.default_int_handler(number, frame)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long tests begin first."""
    long_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByUnit | None:
    """Deal out tests by what they share, where their files are to stay whole."""
    return ByUnit(config, log) if config.getoption("dist") == "loadfile" else None


_workers: list[Any] = []  # pytest-xdist has no types


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node: Any) -> None:
    """Remember a worker (a hook of pytest-xdist)."""
    _workers.append(node)


def pytest_keyboard_interrupt() -> None:
    """Let workers end what they have started; pytest-xdist would kill them after some seconds."""
    for worker in _workers:
        if not worker.channel.isclosed():
            worker.gateway._io.popen.send_signal(signal.SIGTERM)  # it tells its id to nobody
    for worker in _workers:
        with suppress(worker.channel.TimeoutError, worker.channel.RemoteError):
            worker.channel.waitclose(WORKER_ENDS_SECONDS)
