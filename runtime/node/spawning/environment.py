"""A session's environment, built from nothing: what login(1) gives, and what the node allowed the client to add."""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"
DEFAULT_SUPERUSER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "OLDPWD", "SHLVL", "SSH_TTY", "IFS", "_"})
_INTERPRETED = re.compile(
    r"LD_.*|GLIBC_.*|MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|RESOLV_HOST_CONF|RES_OPTIONS|LOCALDOMAIN|TMPDIR"
    r"|ENV|BASH_.*|BASHOPTS|SHELLOPTS|PS4|PROMPT_COMMAND|CDPATH|GLOBIGNORE|FPATH|ZDOTDIR|PYTHON.*|PERL.*|RUBY.*|NODE_.*|JAVA_.*"
)
"""What makes the dynamic linker, the C library, a shell or an interpreter run or read something else: a client that may
only run one command, or whose shell is a restricted one, must not get further by it."""


def addable(name: str, value: str) -> bool:
    """Return whether a client may add that variable. The node's allow-list comes first; this is the second line."""
    if not _NAME.fullmatch(name) or "\0" in value:
        return False
    return name not in _OURS and not _INTERPRETED.fullmatch(name)


def build(
    *,
    login: str,
    home: str,
    shell: str,
    superuser: bool,
    defaults: Mapping[str, str],
    added: Mapping[str, str],
    term: str = "",
    tty: str = "",
) -> dict[str, str]:
    """Return a session's environment.

    `defaults` is what /etc/login.defs says, `added` what the client asked for and the node allowed; `term` and `tty`
    are the type and the name of the session's terminal, if it has one.
    """
    environment = {name: value for name, value in added.items() if addable(name, value)}
    if term and "\0" not in term:
        environment["TERM"] = term
    if tty:
        environment["SSH_TTY"] = tty
    return environment | {
        "HOME": home,
        "USER": login,
        "LOGNAME": login,
        "SHELL": shell,
        "PATH": _path(superuser, defaults),
    }


def parse_defaults(text: str) -> dict[str, str]:
    """Return the settings of a /etc/login.defs (login.defs(5)): a name and a value a line, `#` begins a comment."""
    pairs = (line.split(None, 1) for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def umask(defaults: Mapping[str, str]) -> int:
    """Return the umask that /etc/login.defs asks for; 022 when it says nothing that is one."""
    try:
        mask = int(defaults["UMASK"], 8)
    except (KeyError, ValueError):
        return DEFAULT_UMASK
    return mask if 0 <= mask <= 0o777 else DEFAULT_UMASK


def _path(superuser: bool, defaults: Mapping[str, str]) -> str:
    name, fallback = ("ENV_SUPATH", DEFAULT_SUPERUSER_PATH) if superuser else ("ENV_PATH", DEFAULT_PATH)
    return defaults.get(name, "").removeprefix("PATH=") or fallback
