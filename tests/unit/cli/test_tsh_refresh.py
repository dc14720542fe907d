"""The authorities of a login, kept as its proxy tells them: what is taken, what is not, and who is told to log in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.cli.tsh_refresh import refresh, write_openssh
from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import generate_key
from runtime.pki.trust import Signer
from tests.servers.processes import free_port
from tests.unit.cli.tsh_proxy import Answer, Json, StandIn, stand_in

NOW = datetime.now(UTC).replace(microsecond=0)
NEW = Signer(AuthorityType.HOST, "main", generate_key())
LEAF = generate_key().public.line


class World:
    """A proxy, and joe who has logged in there."""

    def __init__(self, proxy: StandIn, home: Home) -> None:
        self.proxy = proxy
        self.home = home
        self.asked: list[str] = []
        self.told: Json = {}
        self.refuses = False
        proxy.on_list = self._answer
        key = generate_key()
        reply = proxy.cluster.login({"user": "joe", "public_key": key.public.line, "ttl": 3600.0})
        self.keys = Keys(key.to_openssh(), key.public.line + "\n", reply["certificate"])
        self.old = proxy.cluster.hosts.key.public.line
        self.profile = Profile(
            proxy.address,
            "joe",
            pin=proxy.fingerprint,
            cluster="main",
            authorities=(AuthorityKeys("main", "host", (self.old,)),),
        )
        home.store(self.profile, self.keys)
        write_openssh(home, self.profile, self.keys)
        self.tell(self.old)

    def _answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, Answer]:
        self.asked.append(f"{path} signed" if "Authorization" in headers else path)
        if self.refuses and "Authorization" in headers:
            return 401, {"error": {"kind": "AccessDenied", "message": "no", "hint": ""}}
        return 200, self.told

    def tell(self, *hosts: str, users: str = "", cluster: str = "main", leaf: str = "") -> None:
        """Let the proxy tell these keys from now on."""
        users = users or self.proxy.cluster.users.key.public.line
        self.told = {
            "cluster": cluster,
            "authorities": [
                {"cluster": "main", "type": "user", "keys": [users]},
                {"cluster": "main", "type": "host", "keys": list(hosts)},
                *([{"cluster": "leaf", "type": "host", "keys": [leaf]}] if leaf else []),
            ],
        }

    def refresh(self) -> Profile:
        """Refresh what is stored."""
        profile = self.home.current()
        assert profile is not None
        return refresh(self.home, profile, self.keys, now=NOW)

    def files(self) -> dict[str, str]:
        """Return each file's text, by its path."""
        found = sorted(path for path in self.home.path.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(self.home.path)): path.read_text() for path in found}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Yield a stand-in for a proxy."""
    with stand_in(tmp_path_factory.mktemp("proxy")) as made:
        made.cluster.now = lambda: NOW
        yield made


@pytest.fixture
def world(running: StandIn, tmp_path: Path) -> World:
    """Return joe's login at it."""
    return World(running, Home(tmp_path / "tsh"))


def test_nothing_new_changes_nothing(world: World) -> None:
    """One signed request; no file is touched."""
    before = world.files()
    assert world.refresh() == world.profile
    assert world.files() == before
    assert world.asked == ["/webapi/authorities signed"]


def test_new_keys_are_everywhere(world: World) -> None:
    """In the profile, in both kinds of known_hosts, and in what plain ssh uses; key and certificate stay."""
    new = NEW.key.public.line
    world.tell(world.old, new, leaf=LEAF)
    before = world.files()
    refreshed = world.refresh()
    assert refreshed.authorities == (
        AuthorityKeys("main", "host", (world.old, new)),
        AuthorityKeys("leaf", "host", (LEAF,)),
    )
    assert world.home.current() == refreshed
    after = world.files()
    folder = f"keys/{world.proxy.address.name}"
    for name, keys in {
        "known_hosts": {world.old, new, LEAF},
        f"{folder}/known_hosts.main": {world.old, new},
        f"{folder}/known_hosts.leaf": {LEAF},
    }.items():
        assert {" ".join(line.split()[2:4]) for line in after[name].splitlines()} == keys, name
    changed = {name for name in after if after[name] != before.get(name)}
    assert not [name for name in changed if "/.joe~" in name]
    assert (world.home.path / "known_hosts").stat().st_mode & 0o777 == 0o600

    world.tell(new)
    assert world.refresh().authorities == (AuthorityKeys("main", "host", (new,)),)
    assert world.old not in world.files()[f"{folder}/known_hosts.main"]


def test_a_certificate_of_a_key_that_is_gone(world: World) -> None:
    """The new host keys are taken, and the person is told to log in; the proxy does not take the signature any more."""
    world.refuses = True
    world.tell(NEW.key.public.line, users=generate_key().public.line)
    with pytest.raises(AccessDenied, match="has been replaced since you logged in") as caught:
        world.refresh()
    assert caught.value.hint == f"Log in: tsh --proxy={world.proxy.address} --user=joe login"
    assert world.asked == ["/webapi/authorities signed", "/webapi/authorities"]
    profile = world.home.current()
    assert profile is not None
    assert profile.authorities == (AuthorityKeys("main", "host", (NEW.key.public.line,)),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cluster": "other"},
        {"cluster": "main", "authorities": []},
        {"cluster": "main", "authorities": [{"cluster": "main", "type": "host", "keys": ["nonsense"]}]},
        {"cluster": "main", "authorities": [{"cluster": "*", "type": "host", "keys": [NEW.key.public.line]}]},
        {"cluster": "other", "authorities": [{"cluster": "other", "type": "host", "keys": [NEW.key.public.line]}]},
        {"error": "what?"},
    ],
    ids=["lacks keys", "no keys", "no key", "any cluster", "another cluster", "no answer"],
)
def test_nonsense_is_not_taken(world: World, wrong: Json) -> None:
    """One goes on with what is known; nothing is written."""
    before = world.files()
    world.told = wrong
    assert world.refresh() == world.profile
    assert world.files() == before


@pytest.mark.parametrize("away", [True, False], ids=["nobody answers", "older release"])
def test_a_proxy_that_cannot_tell_keeps_nobody_from_working(world: World, *, away: bool) -> None:
    """Its HTTPS may be away while its SSH is not; and an older one has no such path."""
    if away:
        world.home.store(
            Profile(
                Address.parse(f"localhost:{free_port()}"),
                "joe",
                pin=world.profile.pin,
                cluster="main",
                authorities=world.profile.authorities,
            ),
            world.keys,
        )
    else:
        world.proxy.on_list = lambda path, headers: (404, {"error": {"kind": "NotFound", "message": "no"}})
    before = world.files()
    assert world.refresh().authorities == world.profile.authorities
    assert world.files() == before


def test_whoever_is_not_pinned_is_not_asked(world: World) -> None:
    """The pin of the login holds: from somebody else nothing is taken."""
    world.tell(NEW.key.public.line)
    pinned = Profile(
        world.profile.proxy,
        "joe",
        pin="AA" + world.profile.pin[2:],
        cluster="main",
        authorities=world.profile.authorities,
    )
    assert refresh(world.home, pinned, world.keys, now=NOW) == pinned
    assert world.asked == []


def test_who_has_logged_out_is_left_alone(world: World) -> None:
    """A profile without authorities asks nobody, and a refresh that comes too late brings none back."""
    world.tell(NEW.key.public.line)
    world.home.forget(world.profile, ["joe"])
    assert world.refresh().authorities == ()
    assert world.asked == []
    world.home.refresh(world.profile)
    profile = world.home.current()
    assert profile is not None
    assert profile.authorities == ()


def test_two_proxies_of_a_cluster(world: World) -> None:
    """One is asked before the other: keys that follow on known ones are taken, others are not."""
    other = Profile(Address.parse("other.example:3080"), "joe", cluster="main", authorities=world.profile.authorities)
    world.home.store(other, world.keys)
    world.home.store(world.profile, world.keys)
    new = NEW.key.public.line
    for told in ([world.old, new], [new]):
        world.tell(*told)
        assert world.refresh().authorities[0].keys == tuple(told)
    world.tell(generate_key().public.line)
    before = world.files()
    with pytest.raises(
        AccessDenied, match=r"vouches for cluster main with other authorities than proxy other\.example"
    ):
        world.refresh()
    assert world.files() == before
