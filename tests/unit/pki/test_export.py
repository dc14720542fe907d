"""The manual's export formats, out and in."""

from __future__ import annotations

from itertools import count

import pytest

from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.export import export_authority, parse_authorities
from runtime.pki.keys import generate_key
from runtime.pki.trust import AuthorityKey

KEY = generate_key().public
USER = AuthorityKey(AuthorityType.USER, "main", KEY)
HOST = AuthorityKey(AuthorityType.HOST, "main", generate_key().public)


def test_formats() -> None:
    """Host CAs are known_hosts lines, user CAs authorized_keys lines, and known_hosts lines for version 1.0."""
    assert export_authority(USER) == f"cert-authority {KEY.line} clustername=main&type=user"
    assert export_authority(HOST) == f"@cert-authority *.main,main {HOST.key.line} clustername=main&type=host"
    old = export_authority(USER, compatible_with_1_0=True)
    assert old == f"@cert-authority *.main,main {KEY.line} clustername=main&type=user"
    assert export_authority(HOST, compatible_with_1_0=True) == export_authority(HOST)


def test_more_names() -> None:
    """More patterns follow the cluster's own, each once."""
    line = export_authority(HOST, names=["proxy.example.com", "[10.0.0.1]:3023", "main"])
    assert line.split()[1] == "*.main,main,proxy.example.com,[10.0.0.1]:3023"


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a\nb", "!a", "é", "a" * 256])
def test_names_that_are_no_patterns(name: str) -> None:
    """What would end a pattern, negate it or start a new line is refused."""
    with pytest.raises(InvalidInput, match="not a host pattern"):
        export_authority(HOST, names=[name])


def test_read_back() -> None:
    """What is exported is read back as it was, in all forms at once."""
    old = export_authority(AuthorityKey(AuthorityType.USER, "old", generate_key().public), compatible_with_1_0=True)
    text = f"# exported\n\n{export_authority(USER)}\n  {export_authority(HOST, names=['p'])}\r\n{old}\n"
    read = parse_authorities(text, source="keys")
    assert read[:2] == [USER, HOST]
    assert (read[2].type, read[2].cluster) == (AuthorityType.USER, "old")


def test_read_without_a_comment() -> None:
    """A known_hosts line without a comment, as by hand, is the host CA of the cluster that its pattern names."""
    assert parse_authorities(f"@cert-authority *.main {HOST.key.line}", source="keys") == [HOST]
    assert parse_authorities(f"@cert-authority *.main {HOST.key.line} type=host", source="keys") == [HOST]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "holds no authority"),
        ("# nothing", "holds no authority"),
        (KEY.line, "starts with 'ssh-ed25519'"),
        (f'cert-authority,principals="root" {KEY.line}', "starts with 'cert-authority,principals="),
        (f"@revoked *.main {KEY.line}", "starts with '@revoked'"),
        (f"cert-authority {KEY.line}", "does not say whose"),
        (f"cert-authority {KEY.line} clustername=", "does not say whose"),
        (f"@cert-authority * {KEY.line}", "does not say whose"),
        (f"cert-authority {KEY.line} clustername=main&type=host", "cannot hold an authority of type 'host'"),
        (f"cert-authority {KEY.line} clustername=main&type=jwt", "cannot hold an authority of type 'jwt'"),
        (f"cert-authority {KEY.line} clustername=main&clustername=leaf", "says clustername twice"),
        (f"cert-authority {KEY.line} clustername=a/b", "cluster 'a/b'"),
        (f"cert-authority {KEY.line[:-4]} clustername=main", "cannot be read|not encoded|base64"),
        ("cert-authority ssh-dss AAAAB3NzaC1kc3M= clustername=main", "DSA"),
        ("cert-authority", "ends before its key"),
        ("@cert-authority", "ends before its key"),
        ("@cert-authority *.main ssh-ed25519", "ends before its key"),
    ],
    ids=count(),
)
def test_lines_that_are_no_authority(line: str, reason: str) -> None:
    """Each line that cannot be trusted as it stands is refused with its source and number."""
    with pytest.raises(InvalidInput, match=reason) as caught:
        parse_authorities(f"\n{line}", source="keys.txt")
    assert str(caught.value).startswith("keys.txt")
    assert caught.value.hint
