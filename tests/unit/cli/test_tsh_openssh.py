"""OpenSSH's files for a login: what is in them, what may be named in them, and that the real ssh reads them so."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.cli.tsh_openssh import HOP, Configuration, check_host, choose_login, known_hosts, write
from runtime.core.errors import InvalidInput, NotFound
from runtime.pki.claims import service_principal
from runtime.pki.keys import generate_key

MAIN, LEAF = (generate_key().public.line for _ in range(2))
PROFILE = Profile(
    Address("work.example.com"),
    "joe",
    cluster="main",
    ssh_port=4023,
    authorities=(AuthorityKeys("main", "host", (MAIN,)), AuthorityKeys("leaf", "host", (LEAF,))),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a folder with a login in it, whose name has blanks and percent signs."""
    home = Home(tmp_path / "a home %h %%" / ".tsh")
    home.store(PROFILE, Keys("key", "public", "certificate"))
    return home


def asked(path: Path, host: str, *options: str) -> dict[str, str]:
    """Return ssh's settings for a host as it reads them from the file."""
    done = subprocess.run(
        ["ssh", "-G", "-F", path, *options, host], capture_output=True, text=True, timeout=30, check=True
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_the_way_to_a_node(home: Home) -> None:
    """A node is reached on port 3022 through the proxy's subsystem, with this login's key and no other."""
    made = write(home, PROFILE, None, "root")
    settings = asked(made.path, "db1")
    folder = home.path / "keys" / "work.example.com"
    assert settings["port"] == "3022"
    assert settings["user"] == "root"
    assert settings["hostname"] == "db1"
    assert settings["identitiesonly"] == "yes"
    assert settings["identityfile"].replace("%%", "%") == f"{folder}/joe"
    assert settings["certificatefile"].replace("%%", "%") == f"{folder}/joe-cert.pub"
    assert settings["userknownhostsfile"].endswith(f"/.ssh/known_hosts {folder}/known_hosts.main")
    assert settings["stricthostkeychecking"] == "ask", "a plain sshd behind the proxy is for the person to decide"
    assert settings["controlmaster"] == "false"
    assert settings["proxycommand"].endswith(" '%r' '%h' '%p' ''")
    assert asked(made.path, "db1", "-p", "22", "-l", "joe")["port"] == "22"


def test_the_way_to_the_proxy(home: Home) -> None:
    """The proxy has to prove that it is one of this cluster's, by the cluster's own authority and no other file."""
    settings = asked(write(home, PROFILE, "leaf", "root").path, HOP)
    assert settings["hostname"] == "work.example.com"
    assert settings["port"] == "4023"
    assert settings["hostkeyalias"] == HOP == service_principal("proxy")
    assert settings["userknownhostsfile"] == f"{home.path}/keys/work.example.com/known_hosts.main"
    assert settings["globalknownhostsfile"] == "/dev/null"
    assert settings["stricthostkeychecking"] == "true"
    assert settings.get("proxycommand", "none") == "none"


@pytest.mark.parametrize(("host", "name"), [("ssh.example.com", "ssh.example.com"), ("[2001:db8::1]", "2001:db8::1")])
def test_the_way_to_a_proxy_whose_ssh_is_elsewhere(home: Home, host: str, name: str) -> None:
    """Where HTTPS and SSH have load balancers of their own, SSH goes to its own; the proof asked for is the same."""
    settings = asked(write(home, replace(PROFILE, ssh_host=host), None, "root").path, HOP)
    assert settings["hostname"] == name
    assert settings["port"] == "4023"
    assert settings["hostkeyalias"] == HOP


def test_another_cluster(home: Home) -> None:
    """A node of a trusted cluster is believed by that cluster's authority, and asked for with its name."""
    made = write(home, PROFILE, "leaf", "root")
    assert made.path.name == "ssh_config.joe@leaf"
    settings = asked(made.path, "db1")
    assert settings["proxycommand"].endswith("'%r' '%h' '%p' '@leaf'")
    assert settings["userknownhostsfile"].endswith("/known_hosts.leaf")
    folder = home.path / "keys" / "work.example.com"
    assert (folder / "known_hosts.leaf").read_text() == f"@cert-authority * {LEAF} clustername=leaf&type=host\n"
    assert (folder / "known_hosts.main").read_text() == f"@cert-authority * {MAIN} clustername=main&type=host\n"
    with pytest.raises(NotFound, match="vouches for no cluster 'other'") as refused:
        known_hosts(PROFILE, "other")
    assert "leaf, main" in refused.value.hint


def test_files_are_private_and_left_alone(home: Home) -> None:
    """They are readable by their owner only, and not touched while they are right; a changed one is made anew."""
    made = write(home, PROFILE, None, "root")
    files = (made.path, made.known_hosts_path("main"))
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    before = [path.stat().st_ino for path in files]
    write(home, PROFILE, None, "root")
    assert [path.stat().st_ino for path in files] == before
    made.path.write_text("ProxyCommand none")
    write(home, PROFILE, None, "root")
    assert made.path.read_text() == made.text()


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a$b", "a`b", "a\nb", "${HOME}"])
def test_folders_that_cannot_be_named(tmp_path: Path, name: str) -> None:
    """A folder whose name a shell or ssh would read as more than a name is refused with what to do."""
    made = Configuration(tmp_path / name, PROFILE, "main", "root")
    for text in (made.text, made.block):
        with pytest.raises(InvalidInput, match="cannot be named") as refused:
            text()
        assert "TELEPORT_HOME" in refused.value.hint


def test_the_block(home: Home, tmp_path: Path) -> None:
    """What `tsh config` prints is for NODE.CLUSTER, and not for a proxy whose own name ends like that."""
    made = write(home, PROFILE, None, "root")
    (path := tmp_path / "config").write_text(made.block())
    settings = asked(path, "db1.main")
    assert settings["port"] == "3022"
    assert settings["proxycommand"].endswith(f"-l '%r' -s {HOP} 'proxy:%h:%p'")
    assert "proxycommand" not in asked(path, "db1.other")
    inside = Configuration(home.path, Profile(Address("work.main"), "joe", cluster="main"), "main", "root")
    path.write_text(inside.block())
    assert "proxycommand" in asked(path, "db1.main")
    assert "proxycommand" not in asked(path, "work.main")


HARMLESS = re.compile(r"[A-Za-z0-9_.:-]+")


@given(st.text(max_size=300))
@example("a" * 254)
@example("db1\0")
@example("db1\n")
@example("..")
@example("[::1]")
@example("ÿ")
def test_whatever_passes_is_harmless(text: str) -> None:
    """A name that passes has no character that a shell, a configuration or an option could be made of."""
    try:
        host = check_host(text)
    except InvalidInput:
        return
    assert HARMLESS.fullmatch(host)
    assert not host.startswith(("-", "."))
    assert len(host) <= 253


@pytest.mark.parametrize(
    "host", ["db1", "DB1", "db-1.main", "_x", "10.0.0.1", "2001:db8::1", "5f6e7a0e-6b1c-4c5e-9d43-0a5a0f1f2b3c"]
)
def test_names_of_nodes(host: str) -> None:
    """Names, addresses and host ids pass as they are; an IPv6 address may stand in brackets."""
    assert check_host(host) == host
    assert check_host("[2001:db8::1]") == "2001:db8::1"


@pytest.mark.parametrize(
    "host", ["", "-x", "a b", "a;b", "$(x)", "`x`", "a'b", "a%hb", "a@b", "x\0", "a..b", HOP, "AUTH.teleport.internal"]
)
def test_names_of_no_node(host: str) -> None:
    """What no node can be called, and the names of the cluster's own services, are refused."""
    with pytest.raises(InvalidInput, match="cannot be the name of a node"):
        check_host(host)


def test_whom_to_log_in_as() -> None:
    """It is who was asked for, one's own name if the certificate has it, else its first login."""
    assert choose_login(None, ("root", "joe"), "joe") == "joe"
    assert choose_login(None, ("root", "joe"), "ann") == "root"
    assert choose_login("joe", ("root", "joe"), "root") == "joe"
    for bad in ("bob", "", "-oProxyCommand=x", "root,joe"):
        with pytest.raises(InvalidInput, match="your certificate is not for login") as refused:
            choose_login(bad, ("root", "joe"), "root")
        assert "root, joe" in refused.value.hint
    with pytest.raises(InvalidInput, match="is not for login"):
        choose_login("-x", ("-x",), "root")
