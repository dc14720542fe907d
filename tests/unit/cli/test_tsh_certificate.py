"""What a proxy answers to a login is looked at before it is stored: each thing that can be wrong, by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.cli import profile_text, tsh_certificate
from runtime.cli.profile import known_hosts_line
from runtime.cli.tsh_certificate import accept, host_authorities, read_login
from runtime.cli.tsh_messages import AuthorityKeys, LoginReply
from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources.names import NAME_PATTERN
from runtime.pki import extensions
from runtime.pki.certificate import read_certificate
from runtime.pki.export import export_authority
from runtime.pki.keys import PrivateKey, generate_key
from tests.unit.cli.tsh_proxy import Cluster
from tests.unit.pki.forging import sign_raw, with_ca_key

NOW = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
AFTER, BEFORE = int(NOW.timestamp()) - 60, int(NOW.timestamp()) + 3600


class Setting:
    """A key of ours, a cluster, and the reply that it gives to user joe."""

    def __init__(self) -> None:
        self.key = generate_key()
        self.cluster = Cluster(now=lambda: NOW)
        said = self.cluster.login({"user": "joe", "public_key": self.key.public.line, "ttl": 3600})
        authorities = tuple(
            AuthorityKeys(each["cluster"], each["type"], tuple(each["keys"])) for each in said["authorities"]
        )
        self.reply = LoginReply("joe", said["certificate"], "main", authorities)

    def signed(self, signer: PrivateKey | None = None, key: PrivateKey | None = None, **content: object) -> LoginReply:
        """Return the reply with a certificate of any content."""
        content = {"principals": ["joe"], "valid": (AFTER, BEFORE), **content}
        line = sign_raw(signer or self.cluster.users.key, (key or self.key).public, **content)  # type: ignore[arg-type]  # any content
        return replace(self.reply, certificate=line.decode())


@pytest.fixture
def setting() -> Setting:
    """Return a fresh setting."""
    return Setting()


def test_a_good_reply(setting: Setting) -> None:
    """What the certificate says comes out: logins, roles, and until when it is good."""
    login = accept(setting.reply, user="joe", key=setting.key.public, now=NOW)
    assert (login.user, login.logins, login.roles) == ("joe", ("joe", "root"), ("dev",))
    assert (login.valid_after, login.valid_before) == (NOW - timedelta(minutes=1), NOW + timedelta(hours=1))
    (host,) = host_authorities(setting.reply)
    assert host == AuthorityKeys("main", "host", (setting.cluster.hosts.key.public.line,))


WRONG: dict[str, tuple[Callable[[Setting], LoginReply], str]] = {
    "user": (lambda s: replace(s.reply, user="../../x"), "logged in '../../x' where 'joe'"),
    "other user": (lambda s: replace(s.reply, user="root"), "where 'joe' was meant"),
    "cluster name": (lambda s: replace(s.reply, cluster="*"), "cannot be a cluster's name"),
    "cluster with a line": (lambda s: replace(s.reply, cluster="a\nb"), "cannot be a cluster's name"),
    "garbage": (lambda s: replace(s.reply, certificate="ssh-ed25519-cert-v01@openssh.com AAAA"), "cannot be read"),
    "a plain key": (lambda s: replace(s.reply, certificate=s.key.public.line), "where a certificate is due"),
    "other authority": (lambda s: s.signed(generate_key()), "not signed by the user authority"),
    "host authority": (lambda s: s.signed(s.cluster.hosts.key), "not signed by the user authority"),
    "no authorities": (lambda s: replace(s.reply, authorities=()), "not signed by the user authority"),
    "authority of another cluster": (lambda s: replace(s.reply, cluster="other"), "not signed by the user authority"),
    "broken signature": (
        lambda s: replace(
            s.reply,
            certificate=with_ca_key(
                sign_raw(generate_key(), s.key.public, principals=["joe"]), s.cluster.users.key.public.blob
            ).decode(),
        ),
        "not signed by the user authority",
    ),
    "authority's key": (
        lambda s: replace(s.reply, authorities=(AuthorityKeys("main", "user", ("ssh-dss AAAA",)),)),
        "an authority's key cannot be used",
    ),
    "one key for both": (
        lambda s: replace(
            s.reply,
            authorities=(*s.reply.authorities, AuthorityKeys("main", "host", (s.cluster.users.key.public.line,))),
        ),
        "one key as the authority of users and of hosts",
    ),
    "host certificate": (lambda s: s.signed(certificate_type=SSHCertificateType.HOST), "not one of a user"),
    "other key": (lambda s: s.signed(key=generate_key()), "for another key than ours"),
    "other key id": (lambda s: s.signed(key_id="root"), "is for user 'root'"),
    "no principals": (lambda s: s.signed(principals=[]), "for no login at all"),
    "no login": (lambda s: s.signed(principals=[JOIN_LOGIN]), "for no login at all"),
    "for ever": (lambda s: s.signed(valid=(AFTER, 2**64 - 1)), "longer than 30 hours"),
    "not yet valid": (lambda s: s.signed(valid=(AFTER + 120, BEFORE)), "by this machine's clock"),
    "expired": (lambda s: s.signed(valid=(AFTER - 600, AFTER)), "by this machine's clock"),
}


def test_the_principal_for_joining_is_no_login(setting: Setting) -> None:
    """It is not shown among the logins, and nobody logs in as it by default."""
    for principals, joins in ((["joe"], False), (["joe", JOIN_LOGIN], True), ([JOIN_LOGIN, "joe"], True)):
        login = accept(setting.signed(principals=principals), user="joe", key=setting.key.public, now=NOW)
        assert (login.logins, login.join_sessions) == (("joe",), joins)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_reply(setting: Setting, what: str) -> None:
    """Each single thing that is wrong has the reply refused, with a word of what to do."""
    make, match = WRONG[what]
    with pytest.raises(AccessDenied, match=match) as refused:
        accept(make(setting), user="joe", key=setting.key.public, now=NOW)
    assert refused.value.hint or "cannot be read" in str(refused.value)


@pytest.mark.parametrize("cluster", ["../x", "*", "a,b", "a b", "a\n@cert-authority *", "", "A"])
def test_hosts_of_a_cluster_that_cannot_be(setting: Setting, cluster: str) -> None:
    """No name of a further cluster becomes a pattern of known_hosts unless it can be a cluster's."""
    key = generate_key().public.line
    reply = replace(setting.reply, authorities=(*setting.reply.authorities, AuthorityKeys(cluster, "host", (key,))))
    with pytest.raises(AccessDenied, match="cannot be a cluster's name"):
        host_authorities(reply)


def test_no_host_authority(setting: Setting) -> None:
    """Without an authority for hosts no host could be verified, so there is no such login."""
    for authorities in (
        (),
        setting.reply.authorities[:1],
        (AuthorityKeys("leaf", "host", (generate_key().public.line,)),),
    ):
        with pytest.raises(AccessDenied, match="does not tell the host authority of cluster main"):
            host_authorities(replace(setting.reply, authorities=authorities))


def test_comments_do_not_get_into_known_hosts(setting: Setting) -> None:
    """A key's line is taken apart and written anew: what a proxy puts behind it is not stored."""
    key = setting.cluster.hosts.key.public.line
    hosts = AuthorityKeys("main", "host", (f"{key} evil\n@cert-authority * {key}",))
    (found,) = host_authorities(replace(setting.reply, authorities=(hosts,)))
    assert found.keys == (key,)


@pytest.mark.parametrize("roles", ["", "{", "[]", '{"roles": 5}', "[" * 100_000])
def test_roles_that_cannot_be_read(setting: Setting, roles: str) -> None:
    """A certificate without roles, or with others' idea of them, is shown without."""
    reply = setting.signed(extensions={extensions.ROLES: roles})
    assert read_login(read_certificate(reply.certificate.encode())).roles == ()


def test_one_fact_in_two_places() -> None:
    """What is written down here again, to load little, is what the modules say that own it."""
    signer = Cluster().hosts
    assert known_hosts_line("main", signer.key.public.line) == export_authority(signer.public)
    assert tsh_certificate._ROLES == extensions.ROLES
    for pattern in (tsh_certificate._CLUSTER, profile_text.USER_NAME):
        assert pattern.pattern == r"(?=.{1,128}\Z)" + NAME_PATTERN[1:-1]
