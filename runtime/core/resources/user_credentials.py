"""The credentials of a declared user on their way from its Secret to auth."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, StringConstraints

from runtime.core.resources.model import Model

Text = Annotated[str, StringConstraints(strict=True, max_length=16 * 1024)]


class SealedCredentials(Model):
    """What the operator read from a User's Secret, sealed to auth (`runtime.pki.sealing`), and what auth made of it.

    Auth takes them into its own part of the store and leaves `taken`, or `problem`, in place of `box`.
    """

    source: Annotated[str, StringConstraints(strict=True, max_length=512)]
    """Which version of which Secret, and sealed to which key: another one is sealed and taken anew."""
    box: Text | None = None
    taken: AwareDatetime | None = None
    problem: Text = ""
    """Why auth refused them; no value is told."""
