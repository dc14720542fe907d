"""~/.tsh: what tsh remembers between two commands, readable by its owner only.

    PROXY.yaml                what is known of a proxy: `Profile`
    current -> PROXY.yaml     the proxy of the last login
    known_hosts               host authorities for OpenSSH; made anew from the profiles whenever one changes
    keys/PROXY/USER           private key ──┐
    keys/PROXY/USER.pub       public key    ├─ links into keys/PROXY/.USER, which is a link to .USER~RANDOM
    keys/PROXY/USER.cert      certificate ──┘  (USER-cert.pub too: the name that ssh looks for)
    keys/PROXY/ssh_config.USER@CLUSTER, known_hosts.CLUSTER     for OpenSSH: `runtime.cli.tsh_openssh`

PROXY is the host as in the manual, with its port where that is not 3080. A login writes a folder of its own and then
turns the one link `.USER` to it: key and certificate always belong together, whenever a login is interrupted and
however many run at once.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from runtime.cli import home_files, profile_text
from runtime.cli.home_files import HOME_VARIABLE
from runtime.cli.profile_text import USER_NAME, Profile, check_user
from runtime.cli.tsh_address import Address
from runtime.core.errors import AccessDenied, InvalidInput, Unavailable

__all__ = ["Home", "Keys", "Profile", "Wish", "check_user", "choose_profile", "known_hosts_line", "own_name"]

LOCK_SECONDS = 10.0
_KEY, _PUBLIC, _CERTIFICATE = "key", "key.pub", "key-cert.pub"
_LINKS = {"": _KEY, ".pub": _PUBLIC, ".cert": _CERTIFICATE, "-cert.pub": _CERTIFICATE}


@dataclass(frozen=True, slots=True)
class Keys:
    """One login's files: contents of OpenSSH files."""

    private: str
    public: str
    certificate: str

    def __repr__(self) -> str:
        return "<Keys>"


class Home:
    """The folder and all that is in it. Methods raise TeleportError when a file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def find(cls, environment: Mapping[str, str]) -> Home:
        """Return the folder that TELEPORT_HOME names, else ~/.tsh. Raises InvalidInput without a home."""
        if named := environment.get(HOME_VARIABLE):
            return cls(Path(named))
        try:
            return cls(Path.home() / ".tsh")
        except RuntimeError as error:
            raise InvalidInput("you have no home folder", hint=f"Set {HOME_VARIABLE} to a folder of yours.") from error

    # --- reading -------------------------------------------------------------------------------------------------

    def profiles(self) -> list[Profile]:
        """Return all profiles, the current one first, then by name. Raises CorruptState."""
        with home_files.files(self.path):
            names = sorted(path.stem for path in self.path.glob("*.yaml"))
            current = self._current_name()
        names.sort(key=lambda name: name != current)
        return [profile for name in names if (profile := self._read(name))]

    def profile(self, proxy: Address) -> Profile | None:
        """Return what is known of a proxy. Raises CorruptState."""
        return self._read(proxy.name)

    def current(self) -> Profile | None:
        """Return the profile of the last login. Raises CorruptState."""
        name = self._current_name()
        return self._read(name) if name else None

    def users(self, proxy: Address) -> list[str]:
        """Return whose keys are there for a proxy, in order."""
        with home_files.files(self.path):
            folder = self._folder(proxy)
            links = [path.name for path in folder.glob(".*")] if folder.is_dir() else []
        return sorted(name[1:] for name in links if USER_NAME.fullmatch(name[1:]))

    def keys(self, proxy: Address, user: str) -> Keys | None:
        """Return the files of a login, None if there is none."""
        folder = self._folder(proxy) / f".{check_user(user)}"
        with home_files.files(folder):
            while True:
                try:
                    generation = folder.readlink()
                except FileNotFoundError:
                    return None
                # Deleted meanwhile, by another login? Then the link has been turned before.
                with suppress(FileNotFoundError):
                    texts = (
                        home_files.read_text(folder.with_name(generation.name) / name)
                        for name in (_KEY, _PUBLIC, _CERTIFICATE)
                    )
                    return Keys(*texts)
                if folder.is_symlink() and folder.readlink() == generation:
                    return None

    def certificate_path(self, proxy: Address, user: str) -> Path:
        """Return where a login's certificate is, as the manual has it."""
        return self._folder(proxy) / f"{user}.cert"

    # --- writing -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folder, so that a full disk or a foreign owner shows before a one-time password is used up."""
        with home_files.files(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            probe = self.path / f".probe~{os.urandom(4).hex()}"
            home_files.write_text(probe, "")
            probe.unlink()

    def store(self, profile: Profile, keys: Keys) -> None:
        """Replace the login of the profile's user and make the profile the current one.

        Raises AccessDenied when another proxy vouches for the same cluster with other authorities.
        """
        user = check_user(profile.user)
        self.prepare()
        with self._changing():
            self._check_authorities(profile)
            folder = self._folder(profile.proxy)
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            generation = folder / f".{user}~{os.urandom(8).hex()}"
            try:
                generation.mkdir(mode=0o700)
                for name, text in ((_KEY, keys.private), (_PUBLIC, keys.public), (_CERTIFICATE, keys.certificate)):
                    home_files.write_text(generation / name, text)
                for suffix, name in _LINKS.items():
                    home_files.turn(folder / f"{user}{suffix}", Path(f".{user}", name))
                home_files.turn(folder / f".{user}", Path(generation.name))
            except BaseException:
                shutil.rmtree(generation, ignore_errors=True)
                raise
            self._write(profile)
            home_files.turn(self.path / "current", Path(f"{profile.proxy.name}.yaml"))
            self._write_known_hosts()
            for other in folder.glob(f".{user}~*"):
                if other != generation:
                    home_files.remove(other)

    def refresh(self, profile: Profile) -> None:
        """Let the authorities of a profile that is known be these; all else of it stays.

        Raises AccessDenied when another proxy vouches for the same cluster with other authorities.
        """
        with self._changing():
            known = self._read(profile.proxy.name)
            if known is None or not known.authorities:
                return  # logged out meanwhile
            self._check_authorities(profile, before=known)
            self._write(replace(known, authorities=profile.authorities))
            self._write_known_hosts()

    def keep(self, texts: Mapping[Path, str]) -> None:
        """Bring files in this folder up to date: each one whose text differs is replaced in one step."""
        with home_files.files(self.path):
            for path, text in texts.items():
                try:
                    if home_files.read_text(path) == text:
                        continue
                except FileNotFoundError:
                    pass
                home_files.replace(path, partial(home_files.write_text, text=text))

    def forget(self, profile: Profile, users: Iterable[str]) -> list[Path]:
        """Delete the logins of these users and return the files that are gone. The pin and the address stay."""
        gone: list[Path] = []
        self.prepare()
        with self._changing():
            folder = self._folder(profile.proxy)
            for user in map(check_user, users):
                (folder / f".{user}").unlink(missing_ok=True)
                for generation in folder.glob(f".{user}~*"):
                    home_files.remove(generation)
                for suffix in _LINKS:
                    link = folder / f"{user}{suffix}"
                    if link.is_symlink():
                        link.unlink()
                        gone.append(link)
                for made in folder.glob(f"ssh_config.{user}@*"):
                    made.unlink()
            if not self.users(profile.proxy):
                for made in folder.glob("known_hosts.*"):
                    made.unlink()
                with suppress(OSError):
                    folder.rmdir()
                self._write(Profile(profile.proxy, profile.user, profile.pin))
            self._write_known_hosts()
        return gone

    # --- inside --------------------------------------------------------------------------------------------------

    def _folder(self, proxy: Address) -> Path:
        return self.path / "keys" / proxy.name

    def _current_name(self) -> str:
        with suppress(OSError):
            return (self.path / "current").readlink().name.removesuffix(".yaml")
        return ""

    def _read(self, name: str) -> Profile | None:
        path = self.path / f"{name}.yaml"
        with home_files.files(path):
            try:
                text = home_files.read_text(path)
            except FileNotFoundError:
                return None
        return profile_text.parse(path, text)

    def _write(self, profile: Profile) -> None:
        path = self.path / f"{profile.proxy.name}.yaml"
        home_files.replace(path, lambda new: home_files.write_text(new, profile_text.render(profile)))

    def _check_authorities(self, profile: Profile, *, before: Profile | None = None) -> None:
        """Refuse a second proxy that calls its cluster as a known one and is another: it could pose as its hosts.

        Keys that follow on some that were known of the same proxy, `before`, are those of a cluster in rotation: the
        other proxy is only asked later.
        """
        ours = _keys_by_cluster(profile)
        known = _keys_by_cluster(before) if before else {}
        ours = {cluster: keys for cluster, keys in ours.items() if keys.isdisjoint(known.get(cluster, ()))}
        for other in self.profiles():
            if other.proxy == profile.proxy:
                continue
            for cluster, theirs in _keys_by_cluster(other).items():
                if cluster in ours and ours[cluster].isdisjoint(theirs):
                    raise AccessDenied(
                        f"proxy {profile.proxy} vouches for cluster {cluster} with other authorities than "
                        f"proxy {other.proxy} does; nothing was stored",
                        hint=f"If the authorities have changed, or you no longer use the other proxy: "
                        f"tsh logout --proxy={other.proxy}",
                    )

    def _write_known_hosts(self) -> None:
        lines: dict[str, None] = {}
        for profile in sorted(self.profiles(), key=lambda each: each.proxy.name):
            for authority in profile.authorities:
                lines |= dict.fromkeys(known_hosts_line(authority.cluster, key) for key in authority.keys)
        text = "".join(f"{line}\n" for line in lines)
        home_files.replace(self.path / "known_hosts", lambda new: home_files.write_text(new, text))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the folder's lock; Ctrl-C and SIGTERM wait until the end."""
        with home_files.files(self.path):
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock(descriptor)
                waiting = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
                before = signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
                try:
                    yield
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
            finally:
                os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"another tsh has been changing {self.path} for {LOCK_SECONDS:g} s", hint="Is it stopped?"
                    ) from None
                time.sleep(0.02)
            else:
                return


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for; what it leaves open, the current profile and the machine know."""

    proxy: str | None = None
    user: str | None = None
    ttl: timedelta | None = None
    pin: str | None = None
    insecure: bool = False


def choose_profile(home: Home, proxy: str | None, user: str | None) -> Profile:
    """Return the profile that a command is about, new if need be. Raises InvalidInput when no proxy is known."""
    known = home.profile(Address.parse(proxy)) if proxy else home.current()
    if known is None and proxy is None:
        raise InvalidInput("which proxy?", hint="Name it once, as in tsh --proxy=proxy.example.com login; it is kept.")
    if known is None:
        return Profile(Address.parse(proxy or ""), check_user(user or own_name()))
    return known if user is None else replace(known, user=check_user(user))


def own_name() -> str:
    """Return the name of this process's user. Raises InvalidInput where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise InvalidInput("who are you?", hint="Say it with --user=NAME.") from error


def known_hosts_line(cluster: str, key: str) -> str:
    """Return the line that makes OpenSSH believe hosts of a cluster, in the form of `runtime.pki.export`."""
    return f"@cert-authority *.{cluster},{cluster} {key} clustername={cluster}&type=host"


def _keys_by_cluster(profile: Profile) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for authority in profile.authorities:
        found.setdefault(authority.cluster, set()).update(authority.keys)
    return found
