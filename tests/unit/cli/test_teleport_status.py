"""`teleport status` (manual: "only available from inside of an active SSH session")."""

from __future__ import annotations

import pytest

from runtime.cli.teleport_status import status
from runtime.core.errors import NotFound

INSIDE = {
    "SSH_TELEPORT_USER": "joe",
    "SSH_TELEPORT_CLUSTER_NAME": "main",
    "SSH_TELEPORT_HOST_UUID": "f84f7386-5e22-45ff-8f7d-b8079742e63f",
    "SSH_SESSION_ID": "8d3895b6-e9dd-41e6-94de-40167e68e931",
    "SSH_CONNECTION": "10.0.0.7 50000 10.0.0.8 3022",
    "LOGNAME": "root",
}


def test_inside_of_a_session() -> None:
    """Who, as whom, from where, and which session on which node of which cluster."""
    assert status(INSIDE, host="db1").splitlines() == [
        "User    : joe, logged in as root from 10.0.0.7",
        "Cluster : main",
        "Node    : db1 (f84f7386-5e22-45ff-8f7d-b8079742e63f)",
        "Session : 8d3895b6-e9dd-41e6-94de-40167e68e931",
    ]


@pytest.mark.parametrize("missing", INSIDE)
def test_outside_of_one(missing: str) -> None:
    """The error says where the command works."""
    with pytest.raises(NotFound, match="not a session of Teleport") as caught:
        status({name: value for name, value in INSIDE.items() if name != missing})
    assert "tsh ssh" in caught.value.hint


def test_what_the_environment_says_cannot_disguise_itself() -> None:
    """Variables are the user's to change: an escape sequence is shown, not obeyed."""
    assert "\x1b" not in status({**INSIDE, "SSH_TELEPORT_USER": "\x1b[31mroot"}, host="db1")
