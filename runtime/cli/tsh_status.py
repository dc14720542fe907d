"""Who is logged in where, until when: as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from runtime.cli.console import visible
from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_certificate import Login, read_login
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, TeleportError
from runtime.pki.certificate import read_certificate


@dataclass(frozen=True, slots=True)
class Status:
    """One proxy's login: `login` None when there is none, or `damage` says why its certificate cannot be read."""

    profile: Profile
    current: bool
    certificate: Path
    login: Login | None
    damage: str = ""

    def is_valid(self, now: datetime) -> bool:
        """Return whether one can work with it."""
        return self.login is not None and self.login.is_valid(now)

    def error(self, now: datetime) -> TeleportError | None:
        """Return what keeps one from working with it."""
        hint = f"Log in: tsh --proxy={self.profile.proxy} --user={self.profile.user} login"
        if self.damage:
            return AccessDenied(f"{self.certificate} cannot be used: {self.damage}", hint=hint)
        if self.login is None:
            return AccessDenied(f"not logged in at proxy {self.profile.proxy}", hint=hint)
        if now < self.login.valid_after:
            return AccessDenied(
                f"by this machine's clock the certificate is not valid before {_time(self.login.valid_after)}",
                hint="Set the clock of this machine (timedatectl).",
            )
        if not self.login.is_valid(now):
            return AccessDenied(f"the certificate expired at {_time(self.login.valid_before)}", hint=hint)
        return None


def status_of(home: Home, profile: Profile, *, current: bool, keys: Keys | None = None) -> Status:
    """Return the status of a profile; `keys` are its files, read if they are not given."""
    keys = keys or home.keys(profile.proxy, profile.user)
    path = home.certificate_path(profile.proxy, profile.user)
    if keys is None:
        return Status(profile, current, path, None)
    try:
        return Status(profile, current, path, read_login(read_certificate(keys.certificate.encode())))
    except AccessDenied as error:
        return Status(profile, current, path, None, str(error))


def as_text(status: Status, now: datetime) -> str:
    """Return a block of lines, what comes from the proxy escaped."""
    login = status.login
    rows = {"Proxy": str(status.profile.proxy), "User": status.profile.user, "Cluster": status.profile.cluster}
    if login is not None:
        rows |= {"Logins": ", ".join(login.logins), "Roles": ", ".join(login.roles)}
        rows |= {"Valid until": f"{_time(login.valid_before)} ({_remaining(login, now)})"}
        rows |= {"Certificate": str(status.certificate)}
    else:
        rows |= {"Valid until": f"damaged: {status.damage}" if status.damage else "not logged in"}
    lines = [f"  {name + ':':<14}{visible(value)}" for name, value in rows.items() if value]
    return "\n".join(
        (">" if status.current else " ") + line[1:] if not number else line for number, line in enumerate(lines)
    )


def as_json(status: Status, now: datetime) -> dict[str, object]:
    """Return the same as an object for json.dumps; times are RFC 3339, UTC."""
    login = status.login
    return {
        "proxy": str(status.profile.proxy),
        "user": status.profile.user,
        "cluster": status.profile.cluster,
        "current": status.current,
        "valid": status.is_valid(now),
        "logins": list(login.logins) if login else [],
        "roles": list(login.roles) if login else [],
        "valid_after": _rfc3339(login.valid_after) if login else None,
        "valid_before": _rfc3339(login.valid_before) if login else None,
        "certificate": str(status.certificate) if login else None,
    }


def _remaining(login: Login, now: datetime) -> str:
    if now < login.valid_after:
        return f"NOT VALID before {_time(login.valid_after)}"
    left = timedelta(seconds=round((login.valid_before - now).total_seconds()))
    return f"{format_duration(left)} left" if login.is_valid(now) else f"EXPIRED {format_duration(abs(left))} ago"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
