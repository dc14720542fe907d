"""`tsh config`: what plain ssh needs in its own configuration."""

from __future__ import annotations

from pathlib import Path

from runtime.cli import tsh_openssh, tsh_ssh, tsh_status
from runtime.cli.profile import Home, choose_profile
from runtime.core.errors import AccessDenied, TeleportError

_FILE = "ssh_config"
"""In ~/.tsh: what `--install` makes ~/.ssh/config include."""


def block(home: Home, proxy: str | None, user: str | None, cluster: str | None) -> str:
    """Return the lines for ~/.ssh/config, of one cluster or of all that the login knows.

    Whoever has been logged in can be told, also when the certificate has expired. Raises AccessDenied when nobody was,
    NotFound for an unknown cluster.
    """
    profile = choose_profile(home, proxy, user)
    status = tsh_status.status_of(home, profile, current=True)
    if status.login is None:
        raise AccessDenied(
            f"not logged in at proxy {profile.proxy}",
            hint=f"Log in: tsh --proxy={profile.proxy} --user={profile.user} login",
        )
    login = tsh_ssh.default_login(status.login)
    known = sorted({each.cluster for each in profile.authorities} - {profile.cluster})
    wanted = [cluster] if cluster else [profile.cluster, *known]
    return "\n".join(tsh_openssh.write(home, profile, name, login).block() for name in wanted)


def install(home: Home, text: str) -> str:
    """Write the block to a file of tsh's, and make ~/.ssh/config include it; return what was done.

    Raises TeleportError when a file cannot be written; ~/.ssh/config is changed at most by one line at its top.
    """
    kept = home.path.absolute() / _FILE
    home.keep({kept: text})
    config = Path("~/.ssh/config").expanduser()
    line = f"Include {tsh_openssh.quoted(kept)}"
    try:
        before = config.read_text(encoding="utf-8") if config.exists() else ""
        if line in before.splitlines():
            return f"{config} includes {kept} already, which is up to date now."
        config.parent.mkdir(mode=0o700, exist_ok=True)
        # At the top: below a Host line it would hold for that host only. Written in place, as links and owners are
        # a person's own; the line is short, and what follows is what was there.
        mode = 0o600 if not before else config.stat().st_mode & 0o777
        config.touch(mode=mode)
        config.write_text(f"{line}\n{before}", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TeleportError(
            f"{config} cannot be changed: {error}", hint=f"Put this at its top yourself: {line}"
        ) from error
    return f"{config} includes {kept} now."
