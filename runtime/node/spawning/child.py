"""What a forked process does, in this order, until it executes the user's shell or has opened the user's socket.

Nothing of the user's (home, shell, socket path, terminal) is touched before the process is the user's.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.node.spawning import environment, sockets, users
from runtime.node.spawning.protocol import TRANSFERS, Request, error_to_message, send
from runtime.node.spawning.terminal import open_terminal
from runtime.node.transfer_child import serve

ORDINARY_OPEN_FILES = 1024
"""The soft limit of open files that the kernel and systemd give to a process; the service may have raised its own.
Programs that want more raise it to the hard limit, which stays; select(2) breaks beyond it."""
NOT_STARTED = 255
"""The exit code of a process that has told its error. Nobody but the spawner sees it."""


def main(request: Request, answer: socket.socket, etc: Path) -> NoReturn:
    """Carry out a request, and end. What goes wrong is told through `answer`, whose end says that nothing did."""
    code = NOT_STARTED
    try:
        _stand_alone(answer.fileno())
        code = _open(request, answer, etc) if request.kind in sockets.OPENERS else _begin(request, answer, etc)
    except TeleportError as error:
        send(answer, error_to_message(error))
    except BaseException as error:  # a forked process must never run on into its parent's loop
        send(answer, error_to_message(Unavailable(f"the session could not be started: {error!r}")))
    finally:
        os._exit(code)


def remove(request: Request) -> NoReturn:
    """Remove what a listener of `request` left, as its user, and end."""
    try:
        _stand_alone()
        users.become(users.find(request.login))
        sockets.remove_unix(request)
    finally:
        os._exit(0)


def _open(request: Request, answer: socket.socket, etc: Path) -> int:
    users.become(users.permitted(request.login, etc))
    opened = sockets.OPENERS[request.kind](request)
    try:
        send(answer, {"pid": os.getpid()}, [opened.fileno()])
    except OSError:  # the caller has given up
        if request.kind == "listen_unix":
            sockets.remove_unix(request)
        raise
    return 0


def _begin(request: Request, answer: socket.socket, etc: Path) -> int:
    login_defs = environment.parse_defaults(_text_of(etc / "login.defs"))
    account = users.permitted(request.login, etc)
    if request.kind in TRANSFERS and not users.is_login_shell(account.shell, _text_of(etc / "shells")):
        raise AccessDenied(
            f"{account.name} may not transfer files: its shell on this machine is {account.shell}",
            hint="shells that allow it are listed in /etc/shells",
        )

    users.become(account)
    tty = _take_input_and_output(request, answer)
    _close_all_but(answer.fileno())  # what looking up the user may have opened, too
    os.umask(environment.umask(login_defs))
    _go_home(account.home)
    variables = environment.build(
        login=account.name,
        home=account.home,
        shell=account.shell,
        superuser=account.uid == 0,
        defaults=login_defs,
        added=request.environment,
        term=request.terminal.term if request.terminal else "",
        tty=tty,
    )
    if request.kind not in TRANSFERS:
        _execute(request, account.shell, variables)
    answer.close()
    return _transfer(request, variables)


def _stand_alone(*kept: int) -> None:
    """Leave the spawner's session, sockets, signals, and what the service may have set for itself."""
    signal.set_wakeup_fd(-1)
    _close_all_but(*kept)
    os.setsid()
    for number in (signal.SIGCHLD, *_ignored_signals()):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > ORDINARY_OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ORDINARY_OPEN_FILES, hard))


def _ignored_signals() -> list[int]:
    """Return the signals that this process ignores (proc(5)), and a program that it executes would."""
    status = _text_of(Path("/proc/self/status"))
    mask = int(status.partition("SigIgn:")[2].split(maxsplit=1)[0], 16)
    # A parent such as make may leave 32 and 33 ignored, which the C library keeps for itself and lets nobody set.
    valid = signal.valid_signals()
    return [bit + 1 for bit in range(mask.bit_length()) if mask >> bit & 1 and bit + 1 in valid]


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of numbers, not of paths
        if (descriptor := int(name)) > 2 and descriptor not in kept:
            with suppress(OSError):  # the listing's own
                os.close(descriptor)


def _take_input_and_output(request: Request, answer: socket.socket) -> str:
    """Open the terminal or the pipes, as the user; hand over the node's ends; return the terminal's name or ""."""
    tty = ""
    try:
        if request.terminal is not None:
            master, slave = open_terminal(request.terminal)
            tty = os.ttyname(slave)
            theirs, ours = [slave, slave, slave], [master]
        else:
            # Pipes and not sockets: a program may open /dev/stdin, /dev/stdout and /dev/stderr again.
            (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
            theirs, ours = [stdin, stdout, stderr], [to_stdin, from_stdout, from_stderr]
    except OSError as error:
        what = "terminal" if request.terminal else "pipe"
        raise Unavailable(f"there is no {what} for a session of {request.login}: {error.strerror}") from error
    send(answer, {"pid": os.getpid()}, ours)
    for standard, descriptor in enumerate(theirs):
        os.dup2(descriptor, standard, inheritable=True)
    return tty


def _go_home(home: str) -> None:
    """Enter the home folder, or `/` with the words of login(1)."""
    try:
        os.chdir(home)
    except OSError as error:
        _say(f"Could not chdir to home directory {home}: {error.strerror}")
        os.chdir("/")


def arguments_of(request: Request, shell: str) -> list[str]:
    """Return the arguments of the user's shell, its name among them: a login shell's begins with `-` (bash(1)).

    Raises InvalidInput.
    """
    if not shell.startswith("/"):
        raise InvalidInput(f"the shell of {request.login}, {shell}, is not an absolute path")
    if "\0" in request.command:
        raise InvalidInput("the command has a NUL character")
    name = shell.rpartition("/")[2]
    return [f"-{name}"] if request.kind == "shell" else [name, "-c", request.command]


def _execute(request: Request, shell: str, variables: dict[str, str]) -> NoReturn:
    arguments = arguments_of(request, shell)
    try:
        os.execve(shell, arguments, variables)  # noqa: S606 - it is a shell
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise InvalidInput("the command is longer than this machine can run") from error
        kind = NotFound if error.errno == errno.ENOENT else Unavailable
        raise kind(f"the shell of {request.login}, {shell}, cannot be run: {error.strerror}") from error


def _transfer(request: Request, variables: dict[str, str]) -> int:
    gc.enable()
    os.environ.clear()
    os.environ.update(variables)
    try:
        return serve(request.kind, request.command, 0, 1, 2)
    except Exception as error:  # told to the person, by the only way there is
        _say(f"{request.kind}: {error}")
        return 1


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, os.fsencode(f"{text}\n"))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
