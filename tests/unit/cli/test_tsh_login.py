"""`tsh login` in one process, with a stand-in for the proxy that can be told to lie."""

from __future__ import annotations

import getpass
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.cli import tsh_terminal
from runtime.cli.profile import Home, Keys, Profile, Wish, choose_profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_login import log_in
from runtime.cli.tsh_terminal import Pipe
from runtime.cli.webclient import UntrustedCertificate
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable
from runtime.pki.keys import generate_key
from tests.unit.cli.tsh_proxy import Cluster, StandIn, stand_in

START = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)


class Person:
    """Answers prompts, and remembers them."""

    def __init__(self, *, agrees: bool | None = True) -> None:
        self._agrees = agrees
        self.asked: list[str] = []

    def secret(self, what: str, prompt: str) -> str:
        """Type it."""
        self.asked.append(what)
        return f"my {what}"

    def agrees(self, text: str, question: str) -> bool:
        """Agree, or not; None: there is no terminal."""
        self.asked.append(text)
        if self._agrees is None:
            raise InvalidInput("there is no terminal to ask")
        return self._agrees


class Setting:
    """A stand-in proxy, a clock of ours beside the cluster's, a home, and a person."""

    def __init__(self, proxy: StandIn, cluster_clock: ManualClock, folder: Path) -> None:
        self.proxy = proxy
        self.cluster_clock = cluster_clock
        self.clock = ManualClock(START)
        self.home = Home(folder / ".tsh")
        self.person = Person()

    def log_in(
        self, *, user: str = "joe", ttl: timedelta | None = None, pin: str = "", insecure: bool = False
    ) -> Profile:
        """Log in, with the stand-in's certificate pinned unless told otherwise."""
        wish = Wish(str(self.proxy.address), user, ttl, pin or self.proxy.fingerprint, insecure)
        profile, _ = log_in(wish, home=self.home, asker=self.person, now=self.clock.now)
        return profile

    def log_in_unpinned(self) -> Profile:
        """Log in as one who has not met this proxy."""
        wish = Wish(str(self.proxy.address), "joe")
        return log_in(wish, home=self.home, asker=self.person, now=self.clock.now)[0]

    @property
    def logins(self) -> list[object]:
        """The bodies of the logins that the proxy saw."""
        return [request for request in self.proxy.requests if request]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """Yield a setting in which all is well."""
    clock = ManualClock(START)
    with stand_in(tmp_path, Cluster(now=clock.now)) as proxy:
        yield Setting(proxy, clock, tmp_path)


def test_a_login(setting: Setting) -> None:
    """What was typed goes to the proxy, and what comes back is stored under its profile."""
    profile = setting.log_in(ttl=timedelta(minutes=5))
    assert setting.person.asked == ["password", "one-time code"]
    (body,) = setting.proxy.requests[1:]
    assert (body["user"], body["password"], body["otp"], body["ttl"]) == ("joe", "my password", "my one-time code", 300)
    assert profile == setting.home.current()
    assert (profile.user, profile.cluster, profile.pin) == ("joe", "main", setting.proxy.fingerprint)
    keys = setting.home.keys(profile.proxy, "joe")
    assert keys is not None
    assert keys.public.strip() == body["public_key"]
    assert "PRIVATE KEY" in keys.private
    assert repr(keys) == "<Keys>"


def test_no_second_factor(setting: Setting) -> None:
    """Where the cluster asks for no code, nobody is asked for one."""
    setting.proxy.cluster.second_factor = "off"
    setting.log_in()
    assert setting.person.asked == ["password"]
    assert setting.proxy.requests[1]["otp"] == ""


@pytest.mark.parametrize("factor", ["u2f", "retina"])
def test_a_second_factor_that_is_not_there_yet(setting: Setting, factor: str) -> None:
    """A factor that tsh cannot do is named before a password is asked for."""
    setting.proxy.cluster.second_factor = factor
    with pytest.raises(InvalidInput, match=f"second factor {factor}, which tsh cannot do yet"):
        setting.log_in()
    assert setting.person.asked == []


def test_trust_on_first_use(setting: Setting) -> None:
    """The fingerprint is shown once; who agrees is not asked again, and gets no other certificate later."""
    profile = setting.log_in_unpinned()
    assert setting.proxy.fingerprint in setting.person.asked[0]
    assert profile.pin == setting.proxy.fingerprint
    setting.person.asked.clear()
    setting.log_in_unpinned()
    assert setting.person.asked == ["password", "one-time code"]


def test_a_changed_certificate(setting: Setting) -> None:
    """Once a certificate is pinned another is refused: nobody is asked, no password leaves."""
    pin = "SHA256:" + ":".join(["0A"] * 32)
    setting.home.store(Profile(setting.proxy.address, "joe", pin), Keys("private", "public", "certificate"))
    with pytest.raises(UntrustedCertificate, match="another certificate than the pinned"):
        setting.log_in_unpinned()
    assert setting.person.asked == []
    assert setting.proxy.requests == []
    assert setting.log_in().pin == setting.proxy.fingerprint, "--pin takes the new one"


@pytest.mark.parametrize(("agrees", "match"), [(False, "is not trusted; nothing was sent"), (None, "does not trust")])
def test_who_does_not_agree(setting: Setting, agrees: bool | None, match: str) -> None:
    """A no, or nobody there to ask, ends it: no password is asked for, nothing is stored; the error says what to do."""
    setting.person = Person(agrees=agrees)
    with pytest.raises(AccessDenied, match=match) as refused:
        setting.log_in_unpinned()
    assert f"--pin={setting.proxy.fingerprint}" in refused.value.hint
    assert setting.proxy.requests == []
    assert not setting.home.path.exists()


def test_insecure(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    """--insecure asks nothing, warns with the fingerprint, and pins nothing."""
    wish = Wish(str(setting.proxy.address), "joe", insecure=True)
    profile, _ = log_in(wish, home=setting.home, asker=setting.person, now=setting.clock.now)
    assert setting.person.asked == ["password", "one-time code"]
    assert profile.pin == ""
    warning = capsys.readouterr().err
    assert warning.startswith("warning: --insecure")
    assert setting.proxy.fingerprint in warning


@pytest.mark.parametrize(
    ("ahead", "ttl", "match"),
    [
        (timedelta(seconds=-61), None, r"1m1s behind the cluster's: a certificate would not be valid here"),
        (timedelta(hours=-5), None, r"5h behind"),
        (timedelta(hours=23), None, r"23h ahead of"),
        (timedelta(minutes=5), timedelta(minutes=5), r"5m ahead of"),
    ],
)
def test_a_clock_that_is_too_far_off(setting: Setting, ahead: timedelta, ttl: timedelta | None, match: str) -> None:
    """Where the certificate would not be valid by our clock, no password is asked for and no code is used up."""
    setting.clock.advance(ahead)
    with pytest.raises(InvalidInput, match=match) as refused:
        setting.log_in(ttl=ttl)
    assert "2026-05-08 12:00:00 UTC" in refused.value.hint
    assert setting.person.asked == []
    assert setting.logins == []


@pytest.mark.parametrize(
    ("ahead", "warned"),
    [
        (timedelta(seconds=-60), ""),
        (timedelta(seconds=60), ""),
        (timedelta(seconds=61), "warning: this machine's clock is 1m1s ahead of the cluster's"),
        (timedelta(hours=3), "warning: this machine's clock is 3h ahead of the cluster's"),
    ],
)
def test_a_clock_that_is_off(
    setting: Setting, capsys: pytest.CaptureFixture[str], ahead: timedelta, warned: str
) -> None:
    """A minute is nothing; more is worth a warning as long as the certificate is valid here."""
    setting.clock.advance(ahead)
    setting.log_in()
    said = capsys.readouterr().err
    assert said.startswith(warned)
    assert bool(said) == bool(warned)


def test_a_short_certificate_by_a_clock_ahead(setting: Setting) -> None:
    """A cluster that gives less than was asked for may give nothing that is valid here: refused, not stored."""
    setting.clock.advance(timedelta(hours=3))
    login = setting.proxy.cluster.login
    setting.proxy.on_login = lambda body: (200, login({**body, "ttl": 3600}))
    with pytest.raises(AccessDenied, match="by this machine's clock"):
        setting.log_in()
    assert setting.home.profiles() == []


LIES: dict[str, Callable[[Cluster], dict[str, object]]] = {
    "a path for a user": lambda _: {"user": "../../x"},
    "another user": lambda _: {"user": "root"},
    "no cluster's name": lambda _: {"cluster": "*"},
    "no authorities": lambda _: {"authorities": []},
    "no host authority": lambda cluster: {"authorities": cluster.authorities()[:1]},
    "an authority that did not sign": lambda _: {"authorities": Cluster().authorities()},
    "another's certificate": lambda cluster: {
        "certificate": cluster.login({"user": "joe", "public_key": generate_key().public.line, "ttl": 600})[
            "certificate"
        ]
    },
}


@pytest.mark.parametrize("what", LIES)
def test_a_proxy_that_lies(setting: Setting, what: str) -> None:
    """What is wrong in an answer leaves the login of before as it was, byte for byte, and no file anywhere else."""
    profile = setting.log_in()
    before = {path: path.read_bytes() for path in setting.home.path.parent.rglob("*") if path.is_file()}
    login = setting.proxy.cluster.login
    setting.proxy.on_login = lambda body: (200, {**login(body), **LIES[what](setting.proxy.cluster)})
    with pytest.raises(AccessDenied):
        setting.log_in()
    assert {path: path.read_bytes() for path in setting.home.path.parent.rglob("*") if path.is_file()} == before
    assert setting.home.current() == profile


def test_a_wrong_password(setting: Setting) -> None:
    """Auth's refusal comes through in its words; nothing is stored."""
    said = {
        "kind": "AccessDenied",
        "message": "wrong user name, password or one-time password",
        "hint": "Type it again.",
    }
    setting.proxy.on_login = lambda _: (403, {"error": said})
    with pytest.raises(AccessDenied, match="wrong user name, password") as refused:
        setting.log_in()
    assert refused.value.hint == "Type it again."
    assert setting.home.profiles() == []


def test_an_answer_that_does_not_come(setting: Setting) -> None:
    """When auth is away the code may be used up all the same, and the error says so."""
    setting.proxy.on_login = lambda _: (
        503,
        {"error": {"kind": "Unavailable", "message": "auth is away", "hint": "Wait."}},
    )
    with pytest.raises(Unavailable, match="auth is away") as refused:
        setting.log_in()
    assert refused.value.hint == "Wait. The one-time code may be used up: take the next one."


def test_a_home_that_cannot_be_written(setting: Setting, tmp_path: Path) -> None:
    """A folder that cannot be made is noticed before the code is used up."""
    (tmp_path / "link").symlink_to("nowhere")
    setting.home = Home(tmp_path / "link")
    wish = Wish(str(setting.proxy.address), "joe", pin=setting.proxy.fingerprint)
    with pytest.raises(TeleportError, match="cannot be used"):
        log_in(wish, home=setting.home, asker=setting.person, now=setting.clock.now)
    assert setting.logins == []


@pytest.mark.parametrize("end", [KeyboardInterrupt, InvalidInput])
def test_ctrl_c_at_a_prompt(setting: Setting, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]) -> None:
    """Who gives up at a prompt has changed nothing, not even made a folder."""

    def give_up(*_: object) -> str:
        raise end("")

    monkeypatch.setattr(setting.person, "secret", give_up)
    with pytest.raises(end):
        setting.log_in()
    assert not setting.home.path.exists()
    assert setting.logins == []


def test_defaults(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy and user are those of the last login; before the first one, the user is the machine's."""
    home = setting.home
    monkeypatch.setenv("LOGNAME", "ann")
    with pytest.raises(InvalidInput, match="which proxy") as refused:
        choose_profile(home, None, None)
    assert "tsh --proxy=" in refused.value.hint
    assert choose_profile(home, "localhost", None) == Profile(Address("localhost"), "ann")
    profile = setting.log_in()
    assert choose_profile(home, None, None) == profile
    assert choose_profile(home, str(profile.proxy), None) == profile
    assert choose_profile(home, None, "ann") == replace(profile, user="ann")
    with pytest.raises(InvalidInput, match="cannot be the name"):
        choose_profile(home, None, "../../x")


def test_a_pipe() -> None:
    """With --password-stdin the lines are the password and the code; what is missing is named; nobody agrees."""
    pipe = Pipe(io.StringIO("pass word \r\n123456\n"))
    assert (pipe.secret("password", ""), pipe.secret("one-time code", "")) == ("pass word ", "123456")
    with pytest.raises(InvalidInput, match="stdin ends before the one-time code"):
        pipe.secret("one-time code", "")
    with pytest.raises(InvalidInput, match="no password was given"):
        Pipe(io.StringIO("\n")).secret("password", "")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        Pipe(io.TextIOWrapper(io.BytesIO(b"\xff\n"), encoding="utf-8")).secret("password", "")
    with pytest.raises(InvalidInput, match="no terminal"):
        pipe.agrees("", "")


def test_no_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a terminal a prompt is an error that names the other way; stdin is never read with echo."""
    monkeypatch.setattr(tsh_terminal, "_TERMINAL", str(tmp_path / "gone" / "tty"))
    with pytest.raises(InvalidInput, match="no terminal to ask for the password") as refused:
        tsh_terminal.Terminal().secret("password", "")
    assert "--password-stdin" in refused.value.hint
    with pytest.raises(InvalidInput, match="no terminal"):
        tsh_terminal.Terminal().agrees("", "")


def test_nobody_knows_who_this_is(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no name for its user asks for one."""

    def fail() -> str:
        raise KeyError("uid")

    monkeypatch.setattr(getpass, "getuser", fail)
    with pytest.raises(InvalidInput, match="who are you"):
        choose_profile(setting.home, "localhost", None)
