"""Who may have a session on this machine, and becoming that user for good."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path
from typing import NamedTuple

from runtime.core.errors import AccessDenied, NotFound, Unavailable

SECONDS_A_DAY = 24 * 60 * 60
MAX_NOTICE = 4096
"""More of a nologin file is not shown, in bytes."""
_EXPIRE_FIELD = 7  # shadow(5): the account's expiry, in days since 1970


class Account(NamedTuple):
    """An OS user, as the machine's user database has it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def find(login: str) -> Account:
    """Return the OS user of that name. Raises NotFound."""
    try:
        entry = pwd.getpwnam(login)
    except (KeyError, ValueError) as error:  # ValueError: it has a NUL, or is not text
        raise NotFound(
            f"this machine has no user {login!r}", hint="create the user there, or log in as one that it has"
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell or "/bin/sh")


def permitted(login: str, etc: Path) -> Account:
    """Return the OS user of that name if it may have a session; `etc` is /etc.

    Raises NotFound when there is none, AccessDenied when the account has expired, the machine is closed to users, or
    this node, not being root, is another user.

    A password that is locked (`passwd -l`) or has aged says nothing about the account: nobody logs in by a password
    here, passwd(1) says that other ways to log in stay open, and sshd with PAM does the same. What passwd(1) advises
    for closing an account, `usermod --expiredate 1`, is refused here.
    """
    account = find(login)
    own = os.geteuid()
    if own not in (0, account.uid):
        raise AccessDenied(
            f"this node runs as {_name(own)} and can only start sessions of {_name(own)}, not of {login}",
            hint=f"log in as {_name(own)}, or run the node as root",
        )
    if own == 0 and is_expired(_shadow(etc), account.name, int(time.time() // SECONDS_A_DAY)):
        raise AccessDenied(
            f"the account of {login} on this machine has expired", hint="its administrator extends it with chage -E"
        )
    if account.uid != 0 and (notice := closed(etc)) is not None:
        raise AccessDenied(f"this machine takes no logins of users now{': ' if notice else ''}{notice}")
    return account


def is_expired(shadow: str, name: str, today: int) -> bool:
    """Return whether a shadow file says that an account has expired by that day, counted from 1970 (shadow(5)).

    As pam_unix has it: from the day on, and day 0 is a day. What cannot be read as a day counts as expired.
    """
    for line in shadow.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > _EXPIRE_FIELD and (day := fields[_EXPIRE_FIELD]):
            return not day.lstrip("-").isdigit() or 0 <= int(day) <= today
    return False


def closed(etc: Path) -> str | None:
    """Return the text of nologin(5), shown while the machine takes nobody but root; None if there is no such file."""
    for file in (etc / "nologin", etc.parent / "run/nologin"):  # the second is systemd's, as it boots or goes down
        try:
            with file.open("rb") as notice:
                return notice.read(MAX_NOTICE).decode(errors="replace").strip()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{file} cannot be read: {error.strerror}"
    return None


def become(account: Account) -> None:
    """Make this process the user's, for good: groups, group, user, each verified.

    Raises Unavailable when the system does not do it, or says that it did and has not.
    """
    if os.geteuid() == 0:
        groups = os.getgrouplist(account.name, account.gid)
        try:
            os.setgroups(groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
        except OSError as error:
            raise Unavailable(
                f"this node cannot become {account.name}: {error.strerror}",
                hint="it needs CAP_SETUID and CAP_SETGID",
            ) from error
        if set(os.getgroups()) != set(groups):
            raise Unavailable(f"this node could not take on the groups of {account.name}")
        if os.getresgid() != (account.gid,) * 3:
            raise Unavailable(f"this node could not take on the group of {account.name}")
    if os.getresuid() != (account.uid,) * 3:
        raise Unavailable(f"this node could not become {account.name}")
    if account.uid != 0 and _can_be_root():
        raise Unavailable(f"this node could become {account.name}, and root again")


def is_login_shell(shell: str, shells: str) -> bool:
    """Return whether a shell is among those of /etc/shells, ftpd's rule for who may transfer files (shells(5)).

    File transfer goes without the shell, and so would pass by one that is there to keep a user from just that.
    """
    listed = [line.strip() for line in shells.splitlines() if line.startswith("/")]
    return shell in (listed or ["/bin/sh", "/bin/bash"])


def _can_be_root() -> bool:
    try:
        os.setuid(0)
    except OSError:
        return False
    return True


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _shadow(etc: Path) -> str:
    try:
        return (etc / "shadow").read_text(errors="replace")
    except FileNotFoundError:  # all users are a directory service's
        return ""
