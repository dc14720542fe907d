"""What teleport, tctl and tsh share: the group that holds the commands, `version` and `help`."""

from __future__ import annotations

import click

from runtime.cli import console
from runtime.core.version import __version__

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def program(name: str, summary: str, kind: type[click.Group] = click.Group) -> click.Group:
    """Return a program's group of commands, with `version` and `help` in it."""
    group = kind(name, help=summary, context_settings=_SETTINGS)

    @group.command()
    def version() -> None:
        """Show the version."""
        console.out(f"{name} {__version__}")

    @group.command("help")
    @click.argument("command", required=False)
    @click.pass_context
    def show_help(context: click.Context, command: str | None) -> None:
        """Show help, of one command if it is named."""
        parent = context.find_root()
        if command is None:
            console.out(parent.get_help())
            return
        named = group.get_command(parent, command)
        if named is None:
            raise click.UsageError(f"No such command '{console.visible(command)}'.", parent)
        console.out(named.get_help(click.Context(named, parent=parent, info_name=command)))

    return group
