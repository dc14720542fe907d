"""The spawner's loop: one thread that forks for each request, reaps, and tells how each process ended.

It waits for nobody but the node service: what may take time (user databases, home folders on a network) happens in the
forked process. It ends when the node service's end of the control socket is closed, whoever closed it. Sessions that
run then go on as they do when sshd dies: those with a terminal are hung up by the kernel, as its master was the node's,
and the others find their standard input at its end. Listeners that are still there are removed first.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.core.errors import Unavailable
from runtime.node.spawning import child
from runtime.node.spawning.protocol import READY, Request, error_to_message, receive, request_from_text, send


class Spawner:
    """The table of running processes, by the id of their request."""

    def __init__(self, control: socket.socket, etc: Path) -> None:
        self._control = control
        self._etc = etc
        self._running: dict[int, tuple[int, Request]] = {}
        """Requests by process id: a process stays in the table until it is reaped, so its id is not another's."""
        self._listeners: dict[int, Request] = {}
        """What listen_unix made and nobody has closed yet, by the request's id."""
        self._unwanted: set[int] = set()
        """Listeners that were closed before their process had ended."""

    def run(self) -> None:
        """Say that we are there, and serve until the control socket is closed."""
        awake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for ours in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # the end of the socket is our end: who stops the
            signal.signal(ours, signal.SIG_IGN)  # service by a signal to all its processes lets it close its sessions
        gc.disable()  # nothing here makes cycles; a collection in the child would copy every page of the heap
        gc.freeze()
        send(self._control, {"id": READY, "status": 0})
        inputs = select.poll()
        inputs.register(awake, select.POLLIN)
        inputs.register(self._control, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in inputs.poll()}
            if awake in ready:
                os.read(awake, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._serve():
                break
        self._clear()

    def _serve(self) -> bool:
        """Carry out the next message; return False at the end."""
        try:
            message = receive(self._control)
        except Unavailable:  # out of descriptors: the caller sees its answer end without one
            return True
        except ConnectionError:
            return False
        if message is None:
            return False
        self._obey(*message)
        return True

    def _obey(self, order: dict[str, Any], descriptors: list[int]) -> None:
        number: int = order["id"]
        match order["do"]:
            case "start":
                answer, text = descriptors
                with socket.socket(fileno=answer) as channel, open(text, "rb") as file:  # noqa: PTH123 - a descriptor
                    self._start(number, request_from_text(file.read()), channel)
            case "signal":
                self._signal(number, order["signal"])
            case "remove":
                self._remove(number)

    def _start(self, number: int, request: Request, channel: socket.socket) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            text = f"no process can be started for {request.login}: {error.strerror}"
            with suppress(OSError):
                send(channel, error_to_message(Unavailable(text, hint="the machine is at its limit of processes")))
            return
        if pid == 0:
            child.main(request, channel, self._etc)
        # What one user runs is not kept in the memory of what becomes another.
        self._running[pid] = (number, request._replace(command="", environment={}, terminal=None))

    def _signal(self, number: int, signal_number: int) -> None:
        for pid in [pid for pid, (owner, _) in self._running.items() if owner == number]:
            with suppress(PermissionError):  # it has become somebody else, as sudo does, and this node is not root
                try:
                    os.killpg(pid, signal_number)
                except ProcessLookupError:  # it has not come to make its own group
                    os.kill(pid, signal_number)

    def _remove(self, number: int) -> None:
        if any(owner == number for owner, _ in self._running.values()):  # we have not heard yet whether it listens
            self._unwanted.add(number)
        elif (request := self._listeners.get(number)) is not None:
            with suppress(OSError):  # no process to be had: tried again at the end
                if os.fork() == 0:
                    child.remove(request)
                del self._listeners[number]

    def _clear(self) -> None:
        """Remove all listeners, also those that are still being made."""
        for number in list(self._listeners):
            self._remove(number)
        for pid, (number, request) in list(self._running.items()):
            if request.kind == "listen_unix":
                self._unwanted.add(number)
                _, status = os.waitpid(pid, 0)
                self._ended(*self._running.pop(pid), status)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self._running:
                    self._ended(*self._running.pop(pid), status)

    def _ended(self, number: int, request: Request, status: int) -> None:
        # A folder's name is random: whatever is there is ours, also when its process was killed on the way.
        if request.kind == "listen_unix" and (status == 0 or request.folder):
            self._listeners[number] = request
            if number in self._unwanted:
                self._remove(number)
        self._unwanted.discard(number)
        with suppress(OSError):  # the node is gone: the loop sees it next
            send(self._control, {"id": number, "status": status})


def main(etc: str) -> None:
    """Run the spawner on the socket that is this process's standard input."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.chdir("/")
    Spawner(control, Path(etc)).run()
