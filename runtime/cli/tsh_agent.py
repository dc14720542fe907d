"""Keys of ~/.tsh in ssh-agents: one that runs, or one that `tsh agent` starts (manual, "Using OpenSSH Client")."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runtime.cli import sshagent
from runtime.cli.profile import Keys, Profile
from runtime.cli.tsh_certificate import read_login
from runtime.core.errors import InvalidInput, NotFound, Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import load_private_key
from runtime.pki.wire import read_line

_AGENT = "ssh-agent"
_SECONDS = 10
"""How long ssh-agent may take to start or to end another."""


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """An agent process of our own."""

    socket: Path
    pid: int

    def as_shell(self) -> str:
        """Return the lines that `ssh-agent -s` prints, for eval."""
        return (
            f"SSH_AUTH_SOCK={shlex.quote(str(self.socket))}; export SSH_AUTH_SOCK;\n"
            f"SSH_AGENT_PID={self.pid}; export SSH_AGENT_PID;\n"
            f"echo Agent pid {self.pid};"
        )

    def as_json(self) -> dict[str, object]:
        """Return the same as an object for json.dumps."""
        return {"SSH_AUTH_SOCK": str(self.socket), "SSH_AGENT_PID": self.pid}


def add(socket: Path, profile: Profile, keys: Keys, now: datetime) -> None:
    """Put a login into an agent until its certificate ends, in place of the one that was there before.

    Raises Unavailable.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    crypto = load_private_key(keys.private).crypto
    if not isinstance(crypto, Ed25519PrivateKey):
        raise InvalidInput("only Ed25519 keys can be added to an ssh-agent", hint="Log in again.")
    certificate = read_certificate(keys.certificate.encode())
    _, blob = read_line(certificate.line)
    lifetime = read_login(certificate).valid_before - now
    comment = _comment(profile.proxy.name, profile.user)
    with sshagent.connect(socket) as agent:
        for entry in agent.entries():
            if entry.comment == comment and entry.is_certificate:
                agent.remove(entry.blob)
        agent.add(seed=crypto.private_bytes_raw(), certificate=blob, comment=comment, lifetime=lifetime)


def remove(socket: Path, profile: Profile, users: list[str]) -> list[str]:
    """Take logins out of an agent; return the comments of what was removed. Raises Unavailable."""
    comments = {_comment(profile.proxy.name, user) for user in users}
    with sshagent.connect(socket) as agent:
        return [
            entry.comment
            for entry in agent.entries()
            if entry.is_certificate and entry.comment in comments and agent.remove(entry.blob)
        ]


def start(profile: Profile, keys: Keys, now: datetime) -> RunningAgent:
    """Start an ssh-agent that holds a login. Raises NotFound without OpenSSH, Unavailable."""
    # Without -a: ssh-agent makes a folder of mode 0700 for its socket, and removes it when it ends.
    said = _run("-s")
    socket, pid = (re.search(rf"{name}=([^;\n]+);", said) for name in ("SSH_AUTH_SOCK", "SSH_AGENT_PID"))
    if not socket or not pid or not pid[1].isdecimal():
        raise Unavailable("ssh-agent did not say where it listens", hint="Is the ssh-agent in PATH OpenSSH's?")
    agent = RunningAgent(Path(socket[1]), int(pid[1]))
    try:
        add(agent.socket, profile, keys, now)
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGTERM)
        raise
    return agent


def kill(environment: Mapping[str, str]) -> tuple[int, str]:
    """End the agent that SSH_AGENT_PID names; return its pid and the lines that make a shell forget it."""
    pid = environment.get("SSH_AGENT_PID", "")
    if not pid.isdecimal():
        raise InvalidInput("no agent is named by SSH_AGENT_PID", hint="Start one with: eval $(tsh agent)")
    return int(pid), _run("-k", environment).strip()


def _run(flag: str, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            [_AGENT, flag], capture_output=True, text=True, timeout=_SECONDS, env=environment, check=True
        )
    except FileNotFoundError as error:
        raise NotFound(
            "ssh-agent is not installed", hint="It is part of OpenSSH: apt-get install openssh-client"
        ) from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"ssh-agent {flag} failed: {str(error.stderr).strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"ssh-agent {flag} failed: {error}") from error
    return done.stdout


def _comment(proxy: str, user: str) -> str:
    """Return what `ssh-add -l` shows beside a login's key, and how tsh knows its own again."""
    return f"teleport:{user}@{proxy}"
