"""~/.tsh: its files and their modes, logins that are interrupted or come at once, and names that lead elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import home_files
from runtime.cli import profile as profile_module
from runtime.cli.profile import Home, Keys, Profile, check_user
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.core.errors import AccessDenied, CorruptState, InvalidInput, TeleportError, Unavailable
from runtime.pki.export import parse_authorities
from runtime.pki.keys import generate_key

KEY = generate_key().public.line
OTHER_KEY = generate_key().public.line
PIN = "SHA256:" + ":".join(["0A"] * 32)
MAIN = Profile(Address("localhost"), "joe", PIN, "main", 3023, (AuthorityKeys("main", "host", (KEY,)),))


def keys(generation: object) -> Keys:
    """Return files whose contents say which login they are of."""
    return Keys(f"private {generation}", f"public {generation}", f"certificate {generation}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a folder that is not there yet."""
    return Home(tmp_path / "home" / ".tsh")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ~/.tsh unless TELEPORT_HOME says otherwise."""
    monkeypatch.setenv("HOME", "/somewhere")
    assert Home.find({}).path == Path("/somewhere/.tsh")
    assert Home.find({"TELEPORT_HOME": ""}).path == Path("/somewhere/.tsh")
    assert Home.find({"TELEPORT_HOME": "/elsewhere"}).path == Path("/elsewhere")
    monkeypatch.setenv("HOME", "~")  # what Path.home() cannot expand, as for a user without an entry
    with pytest.raises(InvalidInput, match="no home folder"):
        Home.find({})


def test_what_is_stored_is_read_again(home: Home) -> None:
    """Profile and keys come back as they went in, under the names of the manual and those that ssh looks for."""
    assert (home.current(), home.profiles(), home.profile(MAIN.proxy), home.keys(MAIN.proxy, "joe")) == (
        None,
        [],
        None,
        None,
    )
    home.store(MAIN, keys(1))
    assert home.current() == home.profile(MAIN.proxy) == MAIN
    assert home.keys(MAIN.proxy, "joe") == keys(1)
    assert home.users(MAIN.proxy) == ["joe"]
    folder = home.path / "keys" / "localhost"
    names = {"joe": "private 1", "joe.pub": "public 1", "joe.cert": "certificate 1", "joe-cert.pub": "certificate 1"}
    assert {name: (folder / name).read_text() for name in names} == names
    assert home.certificate_path(MAIN.proxy, "joe") == folder / "joe.cert"


def test_only_the_owner_reads(home: Home) -> None:
    """Folders are 0700 and files 0600, whatever the umask, also in a folder that was open before."""
    home.path.mkdir(parents=True, mode=0o755)
    before = os.umask(0)
    try:
        home.store(MAIN, keys(1))
    finally:
        os.umask(before)
    for path in [home.path, *home.path.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_newest_login_is_the_current_one(home: Home) -> None:
    """Proxies have a profile each, on one host too; the last login's comes first."""
    second = Profile(
        Address("localhost", 4080), "ann", "", "other", 3023, (AuthorityKeys("other", "host", (OTHER_KEY,)),)
    )
    home.store(MAIN, keys(1))
    home.store(second, keys(2))
    assert home.profiles() == [second, MAIN]
    home.store(MAIN, keys(3))
    assert home.profiles() == [MAIN, second]
    assert home.keys(MAIN.proxy, "joe") == keys(3)
    assert home.keys(second.proxy, "ann") == keys(2)
    folder = home.path / "keys" / "localhost"
    assert len(list(folder.glob(".joe~*"))) == 1, "an older login's files are still there"


def test_known_hosts(home: Home) -> None:
    """It holds the host authorities of all proxies in OpenSSH's form, and no longer those of one that was left."""
    leaf = AuthorityKeys("leaf", "host", (OTHER_KEY,))
    home.store(replace(MAIN, authorities=(*MAIN.authorities, leaf)), keys(1))
    text = (home.path / "known_hosts").read_text()
    assert {(each.cluster, each.key.line) for each in parse_authorities(text, source="known_hosts")} == {
        ("main", KEY),
        ("leaf", OTHER_KEY),
    }
    home.forget(MAIN, ["joe"])
    assert (home.path / "known_hosts").read_text() == ""


def test_forgetting(home: Home) -> None:
    """Logging out removes a user's files and says which; others' stay, and so do the proxy's address and its pin."""
    for user in ("joe", "joe.smith"):
        home.store(replace(MAIN, user=user), keys(user))
    gone = home.forget(MAIN, ["joe"])
    assert [path.name for path in gone] == ["joe", "joe.pub", "joe.cert", "joe-cert.pub"]
    assert home.keys(MAIN.proxy, "joe") is None
    assert home.keys(MAIN.proxy, "joe.smith") == keys("joe.smith")
    assert (home.path / "known_hosts").read_text() != ""
    assert home.forget(MAIN, ["joe"]) == []
    home.forget(MAIN, ["joe.smith"])
    assert home.profiles() == [Profile(MAIN.proxy, "joe", PIN)]
    assert not list((home.path / "keys").iterdir())


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "..", ".", "", "joe.pub", "joe.cert", "joe-cert.pub", "Joe", "joe\n", "joe\0", "-joe",
             ".joe", "joe~1", "a" * 129, "\N{CYRILLIC SMALL LETTER A}"],
)  # fmt: skip
def test_names_that_lead_elsewhere(home: Home, name: str) -> None:
    """A user's name that is no name, or that is one of another user's files, is refused and touches nothing."""
    with pytest.raises(InvalidInput):
        check_user(name)
    with pytest.raises(InvalidInput):
        home.store(replace(MAIN, user=name), keys(1))
    with pytest.raises(InvalidInput):
        home.keys(MAIN.proxy, name)
    assert not home.path.exists()


def test_a_second_proxy_cannot_pose_as_a_cluster(home: Home) -> None:
    """Who calls its cluster as a known one and has none of its authorities is refused; a second real proxy is not."""
    home.store(MAIN, keys(1))
    elsewhere = Address("evil.example")
    posing = replace(MAIN, proxy=elsewhere, authorities=(AuthorityKeys("main", "host", (OTHER_KEY,)),))
    with pytest.raises(AccessDenied, match="vouches for cluster main with other authorities") as refused:
        home.store(posing, keys(2))
    assert "tsh logout --proxy=localhost" in refused.value.hint
    assert home.profiles() == [MAIN]
    assert OTHER_KEY not in (home.path / "known_hosts").read_text()
    rotating = replace(MAIN, proxy=elsewhere, authorities=(AuthorityKeys("main", "host", (OTHER_KEY, KEY)),))
    home.store(rotating, keys(3))
    home.forget(MAIN, ["joe"])
    home.store(posing, keys(4))
    changed = replace(posing, authorities=(AuthorityKeys("main", "host", (generate_key().public.line,)),))
    home.store(changed, keys(5))
    assert home.keys(elsewhere, "joe") == keys(5)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is carried out."""


class Executioner:
    """Lets a number of steps of a login happen, and none after that, those that clean up included."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
        self.left = steps
        self.dead = False
        for owner, name in (
            (home_files, "write_text"),
            (home_files, "remove"),
            (shutil, "rmtree"),
            (Path, "symlink_to"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "mkdir"),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self.left <= 0:
                self.dead = True
                raise Killed
            self.left -= 1
            return step(*arguments, **options)

        return counted


def test_killed_at_each_step(home: Home) -> None:
    """However far a login gets: key, public key and certificate are those of the old one, or those of the new one."""
    home.store(MAIN, keys("old"))
    seen = set()
    for steps in range(1000):
        with pytest.MonkeyPatch.context() as patch:
            executioner = Executioner(patch, steps)
            with suppress(Killed):
                home.store(MAIN, keys(steps))
            finished = not executioner.dead
        found = home.keys(MAIN.proxy, "joe")
        assert found in (keys("old"), keys(steps)), f"after {steps} steps"
        folder = home.path / "keys" / "localhost"
        assert (folder / "joe").read_text().split()[1] == (folder / "joe.cert").read_text().split()[1]
        assert home.profiles() == [MAIN]
        seen.add(found == keys("old"))
        home.store(MAIN, keys("old"))  # and the next login works, whatever was left behind
        assert len(list(folder.glob(".joe~*"))) == 1
        if finished:
            break
    assert finished
    assert seen == {True, False}
    assert steps > 10


def test_a_first_login_that_is_killed(tmp_path: Path) -> None:
    """Before the first login is complete there is none, and nothing that is in the way of the next."""
    for steps in range(1000):
        home = Home(tmp_path / str(steps))
        with pytest.MonkeyPatch.context() as patch:
            executioner = Executioner(patch, steps)
            with suppress(Killed):
                home.store(MAIN, keys(1))
            finished = not executioner.dead
        assert home.keys(MAIN.proxy, "joe") in (None, keys(1))
        assert home.profiles() in ([], [MAIN])
        home.store(MAIN, keys(2))
        assert home.keys(MAIN.proxy, "joe") == keys(2)
        if finished:
            break
    assert finished


def test_logins_at_once_do_not_mix(home: Home) -> None:
    """Four that log in again and again, while somebody reads: each reading is one whole login."""
    home.store(MAIN, keys("first"))
    errors: list[Exception] = []

    def log_in(worker: int) -> None:
        try:
            for number in range(8):
                home.store(MAIN, keys(f"{worker}.{number}"))
        except Exception as error:  # told below, where pytest sees it
            errors.append(error)

    workers = [threading.Thread(target=log_in, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    readings = 0
    while any(worker.is_alive() for worker in workers):
        found = home.keys(MAIN.proxy, "joe")
        assert found is not None
        words = (found.private, found.public, found.certificate)
        assert len({word.split()[1] for word in words}) == 1
        readings += 1
    for worker in workers:
        worker.join()
    assert errors == []
    assert readings
    assert home.profiles() == [MAIN]
    folder = home.path / "keys" / "localhost"
    assert len(list(folder.glob(".joe~*"))) == 1


def test_a_lock_that_is_held(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login does not wait for ever for another that hangs."""
    home.store(MAIN, keys(1))
    monkeypatch.setattr(profile_module, "LOCK_SECONDS", 0.1)
    with home._changing(), pytest.raises(Unavailable, match="another tsh has been changing"):
        home.store(MAIN, keys(2))
    assert home.keys(MAIN.proxy, "joe") == keys(1)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "\t", "proxy: localhost", "proxy: 5", "!!python/object:os.system {}", "\x00",
     "{proxy: other, user: joe, pin: '', cluster: main, ssh_port: 1, authorities: []}",
     "{proxy: localhost, user: ../x, pin: '', cluster: main, ssh_port: 1, authorities: []}",
     "{proxy: localhost, user: joe, pin: x, cluster: main, ssh_port: 1, authorities: []}",
     "{proxy: localhost, user: joe, pin: '', cluster: main, ssh_port: x, authorities: []}",
     "{proxy: localhost, user: joe, pin: '', cluster: main, ssh_port: 1, authorities: [5]}"],
)  # fmt: skip
def test_a_damaged_profile(home: Home, text: str) -> None:
    """A profile that cannot be used is named, with what to do; nothing is guessed."""
    home.store(MAIN, keys(1))
    (home.path / "localhost.yaml").write_text(text)
    with pytest.raises(CorruptState, match=r"localhost\.yaml cannot be used") as refused:
        home.profiles()
    assert "Delete it" in refused.value.hint


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file where the folder should be is one clear error, when reading and when writing."""
    (tmp_path / "file").write_text("")
    home = Home(tmp_path / "file" / ".tsh")
    with pytest.raises(TeleportError, match="cannot be used: Not a directory") as refused:
        home.store(MAIN, keys(1))
    assert "TELEPORT_HOME" in refused.value.hint
    with pytest.raises(TeleportError, match="cannot be used: Not a directory"):
        home.profile(MAIN.proxy)
