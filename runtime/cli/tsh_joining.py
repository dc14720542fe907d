"""What `tsh sessions ls` and `tsh join` do: which sessions run, and a channel into one of them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from runtime.cli import tsh_run, tsh_ssh
from runtime.cli.profile import Home, Wish
from runtime.cli.tables import table
from runtime.cli.tsh_asked import AskedSession
from runtime.cli.tsh_lists import Session, ask
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.joining import JOIN_LOGIN, MODE_VARIABLE, SESSION_VARIABLE

_SID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{0,35}")
_RUNS = "What runs shows: tsh sessions ls"
MAX_SHOWN = 10
"""Sessions that an error lists."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running session as the proxy told of it. Its texts may hold anything: `console.visible` shows them."""

    sid: str
    user: str
    login: str
    node: str
    """The node's id."""
    hostname: str
    """The node's name; empty while it is not known."""
    started: str
    """RFC 3339."""
    command: str
    """Empty for a shell."""
    joinable: bool
    """It has a terminal."""
    parties: tuple[Mapping[str, str], ...]
    """`user` and `mode` of those who have joined."""

    @property
    def where(self) -> str:
        """The node's name, or its id."""
        return self.hostname or self.node


def sessions(session: Session, *, sid: str = "", insecure: bool = False, now: datetime) -> list[Running]:
    """Return the running sessions that the person may see, the oldest first; or the one with that id, if it runs.

    Raises AccessDenied, and what `WebClient.ping` raises.
    """
    query = [("sid", sid)] if sid else []
    reply = ask(session, "/webapi/sessions", query, insecure=insecure, now=now)
    return [
        Running(
            **{name: each.text(name) for name in ("sid", "user", "login", "node", "started")},
            hostname=each.optional_text("hostname"),
            command=each.optional_text("command"),
            joinable=each.flag("joinable"),
            parties=tuple({"user": one.text("user"), "mode": one.text("mode")} for one in each.objects("parties")),
        )
        for each in reply.objects("sessions")
    ]


def as_json(running: Sequence[Running]) -> list[dict[str, object]]:
    """Return sessions as a program reads them."""
    return [asdict(each) for each in running]


def as_table(running: Sequence[Running]) -> str:
    """Return sessions as a person reads them."""
    rows = (
        (
            each.sid,
            each.user,
            each.login,
            each.where,
            each.started[:19].replace("T", " "),
            ", ".join(f"{one['user']} ({one['mode']})" for one in each.parties),
            each.command[:60] if each.joinable else f"{each.command[:60]} (no terminal)",
        )
        for each in running
    )
    return table(("Session ID", "User", "Login", "Node", "Started (UTC)", "Joined", "Command"), rows)


def check_sid(text: str) -> str:
    """Return an id, or its beginning, in its one form. Raises InvalidInput."""
    text = text.lower()
    if not _PREFIX.fullmatch(text):
        raise InvalidInput(f"{text[:80]!a} is no session's id, nor the beginning of one", hint=_RUNS)
    return text


def choose(found: Sequence[Running], text: str) -> Running:
    """Return the session whose id begins so. Raises NotFound, and InvalidInput for several or one without terminal."""
    fitting = [each for each in found if each.sid.startswith(text)]
    if not fitting:
        raise NotFound(
            f"no session {text} is running that you may see",
            hint=f"{_RUNS}. What has ended: tsh recordings ls, tsh play SID",
        )
    if len(fitting) > 1:
        lines = [f"  {each.sid}  {each.user} as {each.login} on {each.where}" for each in fitting[:MAX_SHOWN]]
        more = [f"  and {len(fitting) - MAX_SHOWN} more"] if len(fitting) > MAX_SHOWN else []
        raise InvalidInput("\n".join([f"{len(fitting)} sessions begin with {text}:", *lines, *more]), hint="Type more.")
    if not fitting[0].joinable:
        raise InvalidInput(
            f"session {fitting[0].sid} has no terminal, so that nobody can join it",
            hint=f"What it has printed so far: tsh play {fitting[0].sid}",
        )
    return fitting[0]


def join(
    home: Home,
    wish: Wish,
    text: str,
    *,
    mode: str | None,
    builtin: bool,
    inside: str,
    now: Callable[[], datetime],
    logged_in: tsh_run.LoggedIn,
) -> int:
    """Hand over to ssh, or join with our own client and return its exit code. `inside`: the session we run in, if any.

    Raises TeleportError when nothing is joined.
    """
    text = check_sid(text)
    entry = tsh_run.enter(home, wish, now, logged_in)
    if not entry.login.join_sessions:
        raise AccessDenied("this login is from before sessions could be joined", hint="Log in again: tsh login")
    whole = text if _SID.fullmatch(text) else ""
    found = sessions(Session(entry.profile, entry.keys), sid=whole, insecure=wish.insecure, now=now())
    session = choose(found, text)
    if session.sid == inside:
        raise InvalidInput(
            "this is the session that you are in: it would show itself without end",
            hint="Join it from another terminal.",
        )
    variables = {SESSION_VARIABLE: session.sid, **({MODE_VARIABLE: mode} if mode else {})}
    asked = AskedSession(
        session.node,
        options=("-t" if sys.stdin.isatty() else "-T",),
        builtin=builtin,
        variables=tuple(variables.items()),
    )
    if builtin or shutil.which("ssh") is None:
        from runtime.cli import tsh_client

        return tsh_client.session(entry, asked, login=JOIN_LOGIN, host=session.node)
    configuration = tsh_ssh.configure(home, entry, None)
    return tsh_ssh.hand_over(
        tsh_ssh.ssh_command(configuration, asked.ssh_options(), JOIN_LOGIN, session.node, asked.command)
    )
