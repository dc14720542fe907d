"""Each kind of value from its text, and what each refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.durations import format_duration
from runtime.core.errors import InvalidInput
from runtime.service import values
from runtime.service.values import Address, Role


@pytest.mark.parametrize("text", ["yes", "Yes", "YES", "true", "True", "on"])
def test_yes(text: str) -> None:
    """Every YAML 1.1 spelling of truth is true."""
    assert values.parse_boolean(text) is True


@pytest.mark.parametrize("text", ["no", "No", "false", "FALSE", "off"])
def test_no(text: str) -> None:
    """Every YAML 1.1 spelling of falsehood is false."""
    assert values.parse_boolean(text) is False


@pytest.mark.parametrize("text", ["", "1", "0", "y", "n", "maybe", "yes "])
def test_neither_yes_nor_no(text: str) -> None:
    """What is not one of them is refused, numbers and letters included."""
    with pytest.raises(InvalidInput, match="expected yes or no"):
        values.parse_boolean(text)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("250", 250), ("1000000", 1_000_000)])
def test_count(text: str, count: int) -> None:
    """A count is a plain decimal number."""
    assert values.parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1_000", "1000001", "0x10", "٣", "ten"])
def test_no_count(text: str) -> None:
    """Zero, signs, fractions, other bases and other scripts are refused."""
    with pytest.raises(InvalidInput, match="expected a number from 1 to 1000000"):
        values.parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m0s", 60), ("1h", 3600), ("1h0m0s", 3600), ("1h30m", 5400), ("90s", 90), ("1500ms", 1.5)]
)
def test_period(text: str, seconds: float) -> None:
    """The manual's spellings of a period are understood."""
    assert values.parse_period(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "1 minute", "-1m", "1m x 1s", "0s", "500ms", "∞"])
def test_no_period(text: str) -> None:
    """A number without unit, an unknown unit, and what would run more often than once a second are refused."""
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_period(text)


@given(st.integers(min_value=1, max_value=10**9))
def test_period_round_trip(seconds: int) -> None:
    """A period that is written out is understood as the same."""
    period = timedelta(seconds=seconds)
    assert values.parse_period(format_duration(period)) == period


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:3025", Address("0.0.0.0", 3025)),  # noqa: S104 — nothing is bound
        ("10.0.0.5", Address("10.0.0.5", 9)),
        ("one", Address("one", 9)),
        ("auth.example:1", Address("auth.example", 1)),
        ("[::]:3023", Address("::", 3023)),
        ("[::1]", Address("::1", 9)),
        ("[0:0::1]:65535", Address("::1", 65535)),
        ("localhost:0", Address("localhost", 0)),
    ],
)
def test_address(text: str, address: Address) -> None:
    """Names, IPv4 and bracketed IPv6 are understood; without a port the default is taken."""
    assert values.parse_address(text, default_port=9) == address


@pytest.mark.parametrize(
    "text",
    ["", ":3025", "a:", "a:b", "a:70000", "a:-1", "a:1:2", "::1", "[::1", "[g]:1", "[::1]x", "a b:1", "a\n:1", "-a:1",
     "http://a:1", "a/b", "a:٣", "[fe80::1%eth0\x1b]:1"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    """Empty hosts, bad ports, bare IPv6, URLs and control characters are refused."""
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_address(text, default_port=9)


def test_peer_has_a_port() -> None:
    """Port 0 is good to listen at, never to connect to."""
    with pytest.raises(InvalidInput, match="from 1 to 65535"):
        values.parse_peer("a:0", default_port=9)


@given(
    st.ip_addresses().map(str) | st.from_regex(r"[a-z]{1,10}(\.[a-z]{1,10}){0,3}", fullmatch=True),
    st.integers(0, 65535),
)
def test_address_round_trip(host: str, port: int) -> None:
    """An address that is written out is understood as the same."""
    address = Address(host, port)
    assert values.parse_address(str(address), default_port=9) == address


@pytest.mark.parametrize("name", ["graviton", "cluster-b", "a.b_c-d", "x" * 253, "9"])
def test_name(name: str) -> None:
    """Names of hosts and clusters pass as they are."""
    assert values.parse_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "a b", "a/b", "a,b", "a\x00", "a\n", "\x1b[31m", "\u0430dmin", "x" * 254]
)
def test_no_name(name: str) -> None:
    """Blanks, slashes, commas, control characters, look-alikes and long names are refused."""
    with pytest.raises(InvalidInput, match="expected a name") as caught:
        values.parse_name(name)
    assert str(caught.value).isascii()


def test_cluster_name() -> None:
    """A cluster's name is one that a TrustedCluster may have."""
    assert values.parse_cluster_name("cluster-b.example") == "cluster-b.example"
    for text in ("", "Main", "a_b", "a\n", "-a", "x" * 129):
        with pytest.raises(InvalidInput, match="expected a name of a-z"):
            values.parse_cluster_name(text)


def test_labels() -> None:
    """A label is one that a node's resource may have."""
    assert values.parse_label_name("example.com/role") == "example.com/role"
    assert values.parse_label_value("") == ""
    for text in ("", "a b", "a,b", "a=b", "-a", "a\n", "x" * 64):
        with pytest.raises(InvalidInput, match="expected a label"):
            values.parse_label_name(text)
    for text in ("\x1b", "a\n", "\u202e", "x" * 256):
        with pytest.raises(InvalidInput, match="expected at most 255"):
            values.parse_label_value(text)


def test_logins() -> None:
    """The manual's `root, jsmith` is two logins; one that is there twice counts once."""
    assert values.parse_logins("root, jsmith,root") == ("root", "jsmith")


@pytest.mark.parametrize("text", ["", "root,", "Root", "a b", "r\x00", "root;id", "../root"])
def test_no_logins(text: str) -> None:
    """What is no login is refused (security.md, Certificates and CAs)."""
    with pytest.raises(InvalidInput, match="expected logins"):
        values.parse_logins(text)


def test_roles() -> None:
    """The flag's list of roles has any order and blanks."""
    assert values.parse_roles("proxy, node") == {Role.PROXY, Role.NODE}


def test_no_roles() -> None:
    """An unknown role is named, with the nearest known one."""
    with pytest.raises(InvalidInput, match=r"found 'nodes'; did you mean node\?"):
        values.parse_roles("auth,nodes")


def test_static_token() -> None:
    """The manual's `proxy,node:xxxxx` is two roles and a value, which may hold colons."""
    token = values.parse_static_token("proxy,node:xx:xx")
    assert token.roles == {Role.PROXY, Role.NODE}
    assert token.value.get_secret_value() == "xx:xx"


@pytest.mark.parametrize("text", ["hunter2", "nodes:hunter2", "hunter2:node", "node:hunter2 x", "node:", ":hunter2"])
def test_no_static_token(text: str) -> None:
    """What is no token is refused, and nothing of it is shown."""
    with pytest.raises(InvalidInput) as caught:
        values.parse_static_token(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["/etc/x", "/"])
def test_path(text: str) -> None:
    """Absolute paths pass as they are."""
    assert values.parse_path(text) == text


@pytest.mark.parametrize("text", ["", "x", "./x", "~/x", "/x\x00"])
def test_no_path(text: str) -> None:
    """Relative paths and control characters are refused."""
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_path(text)


@pytest.mark.parametrize("text", ["10.0.0.5", "2001:db8::5"])
def test_advertised_ip(text: str) -> None:
    """An address of either version can be advertised."""
    assert values.parse_advertised_ip(text) == text


@pytest.mark.parametrize("text", ["", "host", "0.0.0.0", "::", "224.0.0.1", "10.0.0.5:3022", "10.0.0.256"])  # noqa: S104 — nothing is bound
def test_no_advertised_ip(text: str) -> None:
    """What nobody can connect to cannot be advertised."""
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_advertised_ip(text)


@pytest.mark.parametrize("text", ["https://10.0.0.11:2379", "http://etcd:2379", "etcd-1:2379", "https://[::1]:2379"])
def test_etcd_peer(text: str) -> None:
    """A peer is a URL, or host and port."""
    assert values.parse_etcd_peer(text) == text


@pytest.mark.parametrize("text", ["", "ftp://a", "https://", "https://a b", "https://a:99999", "https://a:0", "a:b"])
def test_no_etcd_peer(text: str) -> None:
    """What is neither is refused."""
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_etcd_peer(text)


def test_credentials_in_a_url() -> None:
    """A URL with a password in it is refused, and the password is not shown."""
    with pytest.raises(InvalidInput, match="without a user name or password") as caught:
        values.parse_url("https://root:hunter2@a", schemes=("https",))
    assert "hunter2" not in str(caught.value)


def test_a_pin_in_a_file() -> None:
    """Where a fingerprint is due, an absolute path says which file holds it; anything else is still refused."""
    assert values.parse_ca_pin_or_file("/run/join/caPin") == "/run/join/caPin"
    with pytest.raises(InvalidInput, match="expected SHA256: and 43 characters"):
        values.parse_ca_pin_or_file("run/join/caPin")


@pytest.mark.parametrize("text", ["9s", "24h1s", "0s", "soon"])
def test_a_stop_takes_ten_seconds_to_a_day(text: str) -> None:
    """What is shorter would cut good-byes short, and what is longer is a mistake."""
    assert values.parse_drain("10s") == timedelta(seconds=10)
    assert values.parse_drain("24h") == timedelta(hours=24)
    with pytest.raises(InvalidInput, match="expected"):
        values.parse_drain(text)


def test_ca_pin() -> None:
    """A pin is what ssh-keygen -l prints; another form of fingerprint is refused."""
    pin = "SHA256:" + "A" * 43
    assert values.parse_ca_pin(pin) == pin
    with pytest.raises(InvalidInput, match="expected SHA256:"):
        values.parse_ca_pin("sha256:" + "0" * 64)


@given(st.text())
def test_shown_is_one_ascii_line(text: str) -> None:
    """Whatever somebody wrote, an error shows it cut, in ASCII, on one line, without control characters."""
    shown = values.shown(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 700
