"""The commands of tsh that open sessions: ssh, scp, sftp, and config. Only click is loaded to know them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import console
from runtime.cli.tsh_asked import AskedCopy, AskedSession
from runtime.cli.tsh_options import CLUSTER, INSECURE, PROXY, TTL, USER, before

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from runtime.cli.profile import Home, Wish

LoggedIn = Callable[[Any, Any], None]
"""`runtime.cli.tsh_run.LoggedIn`, without its imports."""
FAILED = 255
"""`runtime.cli.tsh_ssh.FAILED`, without its imports."""

_OPENSSH = """
The session is the installed OpenSSH's. It reads a configuration that tsh makes, and nothing of ~/.ssh/config; -o passes
any of its options on. The exit code is the command's, or 255 when there was no connection.
"""


class SshCommand(click.Command):
    """Reads options as ssh does: before the host, and right after it; from the next word on all is the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the options that follow the host before it."""
        first, words = self._split(ctx, args)
        if len(words) > 1 and words[1].startswith("-"):
            second, command = self._split(ctx, words[1:])
            args = [*first, *second, "--", words[0], *command]
        elif words:
            args = [*first, "--", *words]
        return super().parse_args(ctx, args)

    def _split(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        """Return the options at the beginning, and what follows them."""
        parser = click.Command(self.name, params=[each for each in self.params if isinstance(each, click.Option)])
        inner = click.Context(parser, allow_interspersed_args=False, ignore_unknown_options=False)
        inner.resilient_parsing = ctx.resilient_parsing
        _, words, _ = parser.make_parser(inner).parse_args(list(args))
        options = args[: len(args) - len(words)]
        return [each for each in options if each != "--"], words


class Tsh(click.Group):
    """tsh, which takes `tsh root@luna` for `tsh ssh root@luna` (manual, "Adding and Deleting Users")."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; no command has an @ in its name."""
        if args and "@" in args[0]:
            args = ["ssh", *args]
        return super().resolve_command(ctx, args)


def _flags(*flags: tuple[str, str]) -> Callable[[Any], Any]:
    """Return a decorator: flags of OpenSSH's that are passed on as they are, repeated as often as they were given."""

    def decorate(command: Any) -> Any:
        for flag, text in reversed(flags):
            command = click.option(f"{flag}", _name(flag), count=True, help=text)(command)
        return command

    return decorate


def _values(*options: tuple[str, str, str]) -> Callable[[Any], Any]:
    """Return a decorator: options of OpenSSH's with a value, passed on as they are."""

    def decorate(command: Any) -> Any:
        for option, metavar, text in reversed(options):
            command = click.option(option, _name(option), multiple=True, metavar=metavar, help=text)(command)
        return command

    return decorate


def _name(option: str) -> str:
    """Return the parameter's name of a one-letter option, which tells -t from -T."""
    letter = option.removeprefix("-")
    return f"pass_{'upper_' if letter.isupper() else ''}{letter.lower()}"


def _passed(order: Sequence[str], given: dict[str, Any]) -> list[str]:
    """Return the options to pass on, as a command line has them."""
    words: list[str] = []
    for option in order:
        value = given[_name(option)]
        words += [option] * value if isinstance(value, int) else [word for each in value for word in (option, each)]
    return words


_SSH_FLAGS = (
    ("-A", "Forward the ssh-agent, where the role allows it."),
    ("-t", "Ask for a terminal, though there is a command; -tt though there is none here."),
    ("-T", "Ask for no terminal."),
    ("-N", "Run nothing: for forwarding ports."),
    ("-f", "Go into the background once connected."),
    ("-n", "Read nothing from stdin."),
    ("-C", "Compress; the servers of Teleport do not."),
    ("-q", "Say less."),
    ("-v", "Say more, up to -vvv."),
)
_SSH_VALUES = (
    ("-L", "[BIND:]PORT:HOST:PORT", "Forward a port here to what the node reaches."),
    ("-R", "[BIND:]PORT:HOST:PORT", "Forward a port of the node to what is reached from here."),
    ("-D", "[BIND:]PORT", "Serve SOCKS here, and connect from the node."),
    ("-o", "OPTION=VALUE", "Any option of ssh_config(5)."),
)
_COPY_FLAGS = (
    ("-r", "Copy folders with all that is in them."),
    ("-p", "Keep times and modes."),
    ("-C", "Compress; the servers of Teleport do not."),
    ("-q", "Show no progress."),
    ("-v", "Say more."),
    ("-O", "Use the old SCP protocol."),
    ("-s", "Use the SFTP protocol."),
)
_SFTP_FLAGS = (*_COPY_FLAGS[:5], ("-a", "Continue interrupted transfers."), ("-N", "Ask, even in a batch."))
_O = (_SSH_VALUES[-1],)
_SFTP_VALUES = (("-b", "FILE", "Run the commands in a file, - for stdin."), *_O)
_PORT = {"type": click.IntRange(1, 65535), "metavar": "PORT", "help": "Port of the node [default: 3022]."}
_LOGIN = click.option(
    "-l", "--login", metavar="LOGIN", help="Log in as [default: your own name if you may, else your first login]."
)


def add_sessions(tsh: click.Group, now: Callable[[], datetime], logged_in: LoggedIn) -> None:
    """Give tsh the commands. `logged_in` is told of a profile and its keys after a login on the way."""
    _add_ssh(tsh, now, logged_in)
    _add_scp(tsh, now, logged_in)
    _add_sftp(tsh, now, logged_in)
    _add_config(tsh)


def _add_ssh(tsh: click.Group, now: Callable[[], datetime], logged_in: LoggedIn) -> None:
    @tsh.command(cls=SshCommand, help="Open a shell, or run a command, on a node or on all nodes with some labels.")
    @PROXY
    @USER
    @CLUSTER
    @TTL
    @INSECURE
    @click.option("-p", "--port", **_PORT)  # type: ignore[arg-type]  # values of different types
    @_LOGIN
    @_values(*_SSH_VALUES)
    @_flags(*_SSH_FLAGS)
    @click.option(
        "--parallel", type=click.IntRange(1, 500), default=10, show_default=True, metavar="N", help="Nodes at once."
    )
    @click.option("--builtin", is_flag=True, help="Use tsh's own client, as where no OpenSSH is installed.")
    @click.argument("destination", metavar="[LOGIN@]NODE|LABEL=VALUE,…")
    @click.argument("command", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def ssh(context: click.Context, /, **given: Any) -> None:
        from runtime.cli import tsh_run

        with as_ssh():
            wish = wish_of(context, given)
            options = _passed([*(each[0] for each in _SSH_VALUES), *(each[0] for each in _SSH_FLAGS)], given)
            asked = AskedSession(
                destination=given["destination"],
                command=given["command"],
                login=given["login"],
                port=given["port"],
                options=tuple(options),
                cluster=given["cluster"] or before(context, "cluster"),
                parallel=given["parallel"],
                builtin=given["builtin"],
            )
            context.exit(tsh_run.session(find_home(), wish, asked, now=now, logged_in=logged_in))

    ssh.epilog = _OPENSSH + "\nLabels run the command on every node that has them, each line marked with its node."


def _add_scp(tsh: click.Group, now: Callable[[], datetime], logged_in: LoggedIn) -> None:
    @tsh.command(help="Copy files to and from nodes: [LOGIN@]NODE:PATH.", epilog=_OPENSSH)
    @PROXY
    @USER
    @CLUSTER
    @TTL
    @INSECURE
    @click.option("-P", "--port", **_PORT)  # type: ignore[arg-type]  # as above
    @_LOGIN
    @_values(*_O)
    @_flags(*_COPY_FLAGS)
    @click.option("--builtin", is_flag=True, help="Use tsh's own client, as where no OpenSSH is installed.")
    @click.argument("files", nargs=-1, required=True, metavar="SOURCE... TARGET")
    @click.pass_context
    def scp(context: click.Context, /, **given: Any) -> None:
        from runtime.cli import tsh_run

        if len(given["files"]) < 2:
            raise click.UsageError("Name what to copy, and where to.", context)
        with as_ssh():
            copy = AskedCopy(
                files=given["files"],
                login=given["login"],
                port=given["port"],
                options=tuple(_passed([each[0] for each in (*_O, *_COPY_FLAGS)], given)),
                cluster=given["cluster"] or before(context, "cluster"),
                builtin=given["builtin"],
            )
            context.exit(tsh_run.copy(find_home(), wish_of(context, given), copy, now=now, logged_in=logged_in))


def _add_sftp(tsh: click.Group, now: Callable[[], datetime], logged_in: LoggedIn) -> None:
    @tsh.command(help="Browse a node's files, and copy them, with OpenSSH's sftp.", epilog=_OPENSSH)
    @PROXY
    @USER
    @CLUSTER
    @TTL
    @INSECURE
    @click.option("-P", "--port", **_PORT)  # type: ignore[arg-type]  # as above
    @_LOGIN
    @_values(*_SFTP_VALUES)
    @_flags(*_SFTP_FLAGS)
    @click.argument("destination", metavar="[LOGIN@]NODE[:PATH]")
    @click.pass_context
    def sftp(context: click.Context, /, **given: Any) -> None:
        from runtime.cli import tsh_run

        with as_ssh():
            copy = AskedCopy(
                files=(given["destination"],),
                login=given["login"],
                port=given["port"],
                options=tuple(_passed([each[0] for each in (*_SFTP_VALUES, *_SFTP_FLAGS)], given)),
                cluster=given["cluster"] or before(context, "cluster"),
            )
            tsh_run.browse(find_home(), wish_of(context, given), copy, now=now, logged_in=logged_in)


def _add_config(tsh: click.Group) -> None:
    @tsh.command()
    @PROXY
    @USER
    @CLUSTER
    @click.option("--install", is_flag=True, help="Write it to a file of its own, and include that in ~/.ssh/config.")
    @click.pass_context
    def config(
        context: click.Context, /, *, proxy: str | None, user: str | None, cluster: str | None, install: bool
    ) -> None:
        """Print what plain ssh needs to reach the nodes as NODE.CLUSTER.

        Use it with tsh config >> ~/.ssh/config, or with tsh config --install. Then ssh, scp, sftp, rsync, Ansible and
        editors work as with any host. It stays good over logins.
        """
        from runtime.cli import tsh_config

        proxy, user = proxy or before(context, "proxy"), user or before(context, "user")
        text = tsh_config.block(find_home(), proxy, user, cluster or before(context, "cluster"))
        if install:
            console.say(tsh_config.install(find_home(), text))
        else:
            console.out(text)


def wish_of(context: click.Context, given: dict[str, Any]) -> Wish:
    """Return whose login a command is for."""
    from runtime.cli.profile import Wish

    ttl: timedelta | None = given["ttl"] or before(context, "ttl")
    return Wish(
        proxy=given["proxy"] or before(context, "proxy"),
        user=given["user"] or before(context, "user"),
        ttl=ttl,
        insecure=given["insecure"] or before(context, "insecure"),
    )


@contextmanager
def as_ssh() -> Iterator[None]:
    """End with ssh's exit code where there was no session."""
    from runtime.core.errors import TeleportError

    try:
        yield
    except TeleportError as error:
        console.fail(error)
        raise click.exceptions.Exit(FAILED) from error


def find_home() -> Home:
    """Return where logins are kept."""
    from runtime.cli.profile import Home

    return Home.find(os.environ)
