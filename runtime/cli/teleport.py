"""teleport: the daemon's command line (manual, "Teleport Daemon")."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from runtime.cli import console
from runtime.cli.common import program
from runtime.core import defaults

if TYPE_CHECKING:
    from runtime.service.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's parameters are click's business

teleport = program("teleport", "SSH access for clusters: auth, node and proxy in one daemon.")

_START_FLAGS = (
    click.option("-d", "--debug", is_flag=True, help="Enable verbose logging to stderr."),
    click.option("-r", "--roles", metavar="ROLES", help="Comma-separated roles to start [default: auth,node,proxy]."),
    click.option("--advertise-ip", metavar="IP", help="IP to advertise to clients if running behind NAT."),
    click.option("-l", "--listen-ip", metavar="IP", help=f"IP to listen on [default: {defaults.LISTEN_HOST}]."),
    click.option("--auth-server", metavar="HOST[:PORT]", help="Auth server of the cluster to join."),
    click.option("--token", metavar="TOKEN", help="Invitation with which to join, at the first start."),
    click.option("--ca-pin", metavar="FINGERPRINT", help="Host CA of the cluster to join, from tctl nodes add."),
    click.option("--nodename", metavar="NAME", help="Name of this node [default: its host name]."),
    click.option("-c", "--config", metavar="FILE", help=f"Configuration file [default: {defaults.CONFIG_FILE}]."),
    click.option("--diag-addr", metavar="IP[:PORT]", help="Serve /healthz, /readyz and /metrics here [default: off]."),
    click.option("--labels", metavar="LABELS", help='Labels of this node: env=prod,uptime=[1m:"uptime -p"].'),
)


def start_flags(command: F) -> F:
    """Give a command the flags of `teleport start`, each as written in the manual's table."""
    for option in reversed(_START_FLAGS):
        command = option(command)
    return command


@teleport.command()
@start_flags
def start(*, debug: bool, **flags: str | None) -> None:
    """Start the daemon: auth, node and proxy, unless --roles or the file say otherwise."""
    from runtime.cli.start import start as run  # here, so that `teleport version` stays light
    from runtime.service.flags import parse_flags
    from runtime.service.load import load_settings

    understood = parse_flags(debug=debug, **flags)
    run(load_settings(understood), reread=lambda: load_settings(understood))


@teleport.command()
@click.option("-t", "--test", is_flag=True, help="Check the file and flags instead; start nothing.")
@start_flags
@click.pass_context
def configure(context: click.Context, /, *, test: bool, debug: bool, **flags: str | None) -> None:
    """Print a sample configuration file, or check one with --test.

    The flags other than --test are those of the start command and are checked together with the file.
    """
    if test:
        _check(debug=debug, flags=flags)
        return
    if debug or any(text is not None for text in flags.values()):
        raise click.UsageError("the flags are for --test; without it the sample is printed", context)
    from runtime.service.sample import sample  # here, so that `teleport version` stays light

    console.out(sample())


@teleport.command("status")
def show_status() -> None:
    """Show which session this is; only inside of one."""
    from runtime.cli.teleport_status import status

    console.out(status(os.environ))


def _check(*, debug: bool, flags: dict[str, str | None]) -> None:
    from runtime.core.yaml_marks import show_path
    from runtime.service.checks import warnings
    from runtime.service.flags import parse_flags
    from runtime.service.load import load_settings

    understood = parse_flags(debug=debug, **flags)
    settings = load_settings(understood)
    for path, message in warnings(settings):
        console.say(f"warning: {show_path(path)}: {message}")
    no_file = understood.config is None and not Path(defaults.CONFIG_FILE).exists()
    source = f"no {defaults.CONFIG_FILE}, so defaults" if no_file else understood.config or defaults.CONFIG_FILE
    console.out(f"ok: {console.visible(source)}: {_summary(settings)}")


def _summary(settings: Settings) -> str:
    """Return in one line what these settings would run; no secret is in it."""
    storage = settings.teleport.storage
    facts = (
        f"roles {','.join(sorted(settings.roles))}",
        f"storage {storage.type if storage else 'sqlite'}",
        f"dynamic_config {'yes' if settings.dynamic_config else 'no'}",
    )
    return "; ".join(facts)


def main() -> NoReturn:
    """Run teleport as a process."""
    console.run(teleport)
