"""The life of a process: order, signals, failures. Signals go to this very process, or to one of our own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.core.errors import InvalidSettings, Unavailable
from runtime.service.lifecycle import Part, live


class Recorder:
    """A part that writes down what happens to it."""

    where = ""

    def __init__(self, name: str, events: list[str], *, fails: str = "") -> None:
        self.name = name
        self.events = events
        self.fails = fails
        self.started = asyncio.Event()

    async def _happens(self, what: str) -> None:
        self.events.append(f"{self.name} {what}")
        if self.fails == what:
            raise Unavailable(f"{self.name} cannot {what}")
        if self.fails == f"hangs in {what}":
            await asyncio.Event().wait()

    async def start(self) -> None:
        """Note it."""
        self.started.set()
        await self._happens("start")

    async def run(self) -> None:
        """Note it, and go on for ever."""
        await self._happens("run")
        await asyncio.Event().wait()

    async def reload(self) -> None:
        """Note it."""
        await self._happens("reload")

    async def stop(self) -> None:
        """Note it."""
        await self._happens("stop")


def signal_us(number: signal.Signals) -> None:
    """Send this process a signal."""
    os.kill(os.getpid(), number)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody there sets an event
            await asyncio.sleep(0.01)


async def test_parts_start_in_order_and_stop_in_reverse() -> None:
    """SIGTERM stops all parts, the last started first, and the handlers are gone afterwards."""
    events: list[str] = []
    parts: list[Part] = [Recorder("one", events), Recorder("two", events)]

    def ready() -> None:
        events.append("ready")
        asyncio.get_running_loop().call_soon(signal_us, signal.SIGTERM)

    await live(parts, ready=ready, stopping=lambda: events.append("stopping"))
    assert [event for event in events if not event.endswith("run")] == [
        "one start", "two start", "ready", "stopping", "two stop", "one stop",
    ]  # fmt: skip
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


async def test_a_failed_start_stops_what_has_started() -> None:
    """The error of the part that cannot start comes out; it is not stopped itself, those before it are."""
    events: list[str] = []
    with pytest.raises(Unavailable, match="two cannot start"):
        await live([Recorder("one", events), Recorder("two", events, fails="start"), Recorder("three", events)])
    assert events == ["one start", "two start", "one stop"]


async def test_a_start_that_waits_can_be_stopped() -> None:
    """SIGTERM ends a start that waits for somebody; `ready` is never said."""
    events: list[str] = []
    waiting = Recorder("one", events, fails="hangs in start")
    living = asyncio.create_task(live([waiting], ready=lambda: events.append("ready")))
    await waiting.started.wait()
    signal_us(signal.SIGTERM)
    await asyncio.wait_for(living, 10)
    assert events == ["one start"]


async def test_a_part_that_fails_ends_the_process() -> None:
    """What a part raises while it works comes out, after all have stopped."""
    events: list[str] = []
    with pytest.raises(Unavailable, match="two cannot run"):
        await live([Recorder("one", events), Recorder("two", events, fails="run")])
    assert events[-2:] == ["two stop", "one stop"]


async def test_a_part_that_does_not_stop_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """One that hangs or fails in stop keeps no other from stopping."""
    events: list[str] = []
    parts = [
        Recorder("one", events),
        Recorder("two", events, fails="hangs in stop"),
        Recorder("three", events, fails="stop"),
    ]
    await live(parts, ready=lambda: signal_us(signal.SIGTERM), drain_seconds=0.05)
    assert events[-3:] == ["three stop", "two stop", "one stop"]
    assert "two did not stop within 0.05 s" in caplog.text
    assert "three failed to stop" in caplog.text


async def test_sighup_reloads_every_part(caplog: pytest.LogCaptureFixture) -> None:
    """SIGHUP calls `reload` and then the parts' own; one that fails is told, and all goes on."""
    events: list[str] = []
    reloaded = asyncio.Event()
    loop = asyncio.get_running_loop()

    def reload() -> None:
        events.append("reload")
        if events.count("reload") == 1:
            raise InvalidSettings("the file is broken")
        loop.call_soon_threadsafe(reloaded.set)

    one = Recorder("one", events)
    living = asyncio.create_task(live([one], ready=lambda: signal_us(signal.SIGHUP), reload=reload))
    await until(lambda: "not reloaded, going on as before: the file is broken" in caplog.text)
    assert "one reload" not in events
    signal_us(signal.SIGHUP)
    await asyncio.wait_for(reloaded.wait(), 10)
    await until(lambda: "one reload" in events)
    signal_us(signal.SIGINT)
    await asyncio.wait_for(living, 10)


def test_the_second_signal_ends_at_once() -> None:
    """A process that hangs while it stops is ended by another SIGTERM, as by any signal that nobody handles."""
    script = """
import asyncio, sys
from runtime.service.lifecycle import live

class Hangs:
    name, where = "hangs", ""
    async def start(self): print("started", flush=True)
    async def run(self): await asyncio.Event().wait()
    async def reload(self): pass
    async def stop(self):
        print("stopping", flush=True)
        await asyncio.Event().wait()

asyncio.run(live([Hangs()], drain_seconds=600))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            process.terminate()
            assert process.stdout.readline() == "stopping\n"
            process.terminate()
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


async def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NOTIFY_SOCKET set, READY=1 and STOPPING=1 go there (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        await live([Recorder("one", [])], ready=lambda: signal_us(signal.SIGTERM))
        assert [sock.recv(64), sock.recv(64)] == [b"READY=1", b"STOPPING=1"]
