"""Completion of command lines by the shell: the script that a shell loads, and the answers to what it then asks.

The script sets `_PROGRAM_COMPLETE` and runs the program, which answers in place of doing anything (click, "Shell
Completion"). Candidates come from the commands alone: nothing is read and nobody is called.
"""

from __future__ import annotations

import os
from typing import NoReturn

import click
from click.shell_completion import get_completion_class, shell_complete

from runtime.cli import console

SHELLS = ("bash", "zsh", "fish")
_LOAD = {
    "bash": 'eval "$({0} completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$({0} completion zsh)"   in ~/.zshrc',
    "fish": "{0} completion fish | source   in ~/.config/fish/config.fish",
}


def add_completion(group: click.Group) -> None:
    """Give a program the command `completion`."""
    name = str(group.name)
    loading = "\n".join("  " + line.format(name) for line in _LOAD.values())

    @group.command(help=f"Print a script for completion in a shell.\n\n\b\nLoad it with\n{loading}")
    @click.argument("shell", type=click.Choice(SHELLS))
    def completion(shell: str) -> None:
        kind = get_completion_class(shell)
        assert kind is not None  # noqa: S101 - click has all of SHELLS
        # Not source(): for bash it runs bash, only to warn of versions from before 2016.
        script = kind(group, {}, name, _variable(name))
        console.out(script.source_template % script.source_vars())


def run(group: click.Group) -> NoReturn:
    """Run a program as `console.run` does, or answer the shell if it is the shell that asks."""
    name = str(group.name)
    if asked := os.environ.get(_variable(name)):
        raise SystemExit(shell_complete(group, {}, name, _variable(name), asked))
    console.run(group)


def _variable(name: str) -> str:
    return f"_{name.upper()}_COMPLETE"
