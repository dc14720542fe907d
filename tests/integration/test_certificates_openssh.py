"""OpenSSH's own word on what is signed here: the real ssh-keygen, sshd and ssh."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import asyncssh
import pytest
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import Certificate
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole, UserClaims
from runtime.pki.export import export_authority
from runtime.pki.keys import KeyAlgorithm, PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_host, sign_member, sign_user
from runtime.pki.trust import Signer
from tests.servers.sshd import LOGIN, Sshd, trusted_user_ca_keys
from tests.unit.pki.forging import sign_raw, string

HOUR = timedelta(hours=1)
NOW = datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC)
HOST_ID = "8f14e45f-ceea-467f-a8d2-0123456789ab"


def keygen(*arguments: str | Path) -> str:
    """Return what ssh-keygen prints, with its times in UTC."""
    done = subprocess.run(
        ["ssh-keygen", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
    )
    return done.stdout


def shown(certificate: Certificate, folder: Path) -> list[str]:
    """Return the lines that `ssh-keygen -L` prints of a certificate, stripped, without the one of the file's name."""
    path = folder / "shown-cert.pub"
    path.write_bytes(certificate.line)
    return [line.strip() for line in keygen("-L", "-f", path).splitlines()[1:]]


def signer(authority_type: AuthorityType, algorithm: KeyAlgorithm = KeyAlgorithm.ED25519) -> Signer:
    """Return a new authority of cluster main."""
    return Signer(authority_type, "main", generate_key(algorithm))


def user_claims(**changes: object) -> UserClaims:
    """Return claims of joe, who may log in as whoever runs this."""
    claims: dict[str, object] = {
        "user": "joe",
        "cluster": "main",
        "logins": (LOGIN,),
        "roles": ("dev",),
        "ttl": HOUR,
        "permit_pty": True,
    }
    return UserClaims(**(claims | changes))  # type: ignore[arg-type]  # each test names the fields that it changes


def test_keygen_shows_a_user_certificate_as_claimed(tmp_path: Path) -> None:
    """Type, keys, id, serial, window, principals, critical options and extensions are what was asked for."""
    authority, key = signer(AuthorityType.USER), generate_key()
    claims = user_claims(
        logins=("root", "joe"),
        roles=("dev", "user:joe"),
        permit_port_forwarding=True,
        permit_agent_forwarding=True,
        source_addresses=(ip_network("10.0.0.0/8"), ip_network("::1/128")),
        force_command="uptime -p",
    )
    certificate = sign_user(claims, key.public, signer=authority, now=NOW, serial=2**64 - 1)
    value = string(b'{"cluster":"main","roles":["dev","user:joe"]}')
    assert shown(certificate, tmp_path) == [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        f"Public key: ED25519-CERT {key.public.fingerprint}",
        f"Signing CA: ED25519 {authority.key.public.fingerprint} (using ssh-ed25519)",
        'Key ID: "joe"',
        "Serial: 18446744073709551615",
        "Valid: from 2027-03-04T05:05:07 to 2027-03-04T06:06:07",
        "Principals:",
        "root",
        "joe",
        "Critical Options:",
        "force-command uptime -p",
        "source-address 10.0.0.0/8,::1/128",
        "Extensions:",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        f"roles@teleport.internal UNKNOWN OPTION: {value.hex()} (len {len(value)})",
    ]


def test_keygen_shows_a_host_certificate_as_claimed(tmp_path: Path) -> None:
    """A host certificate has the computed names, no options, and the host CA's signature."""
    authority, key = signer(AuthorityType.HOST), generate_key()
    claims = HostClaims(
        host_id=HOST_ID,
        role=MemberRole.NODE,
        name="db1",
        cluster="main",
        advertised=("db.example.com", "10.1.2.3"),
        ttl=HOUR,
    )
    assert shown(sign_host(claims, key.public, signer=authority, now=NOW, serial=7), tmp_path) == [
        "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
        f"Public key: ED25519-CERT {key.public.fingerprint}",
        f"Signing CA: ED25519 {authority.key.public.fingerprint} (using ssh-ed25519)",
        f'Key ID: "{HOST_ID}"',
        "Serial: 7",
        "Valid: from 2027-03-04T05:05:07 to 2027-03-04T06:06:07",
        "Principals:",
        HOST_ID,
        "db1",
        "db1.main",
        "db.example.com",
        "10.1.2.3",
        "node.teleport.internal",
        "Critical Options: (none)",
        "Extensions: (none)",
    ]


def test_keygen_shows_a_member_certificate_as_claimed(tmp_path: Path) -> None:
    """A member certificate is of type user, for one principal, signed by the host CA, and permits nothing."""
    authority, key = signer(AuthorityType.HOST), generate_key()
    claims = MemberClaims(host_id=HOST_ID, role=MemberRole.NODE, cluster="main", ttl=HOUR)
    lines = shown(sign_member(claims, key.public, signer=authority, now=NOW, serial=7), tmp_path)
    assert lines[0] == "Type: ssh-ed25519-cert-v01@openssh.com user certificate"
    assert lines[6:-1] == ["Principals:", f"node.{HOST_ID}", "Critical Options: (none)", "Extensions:"]
    assert lines[-1].startswith("role@teleport.internal UNKNOWN OPTION")


@pytest.mark.parametrize(
    ("algorithm", "signed_with"),
    [
        (KeyAlgorithm.ECDSA_P256, "ECDSA {} (using ecdsa-sha2-nistp256)"),
        (KeyAlgorithm.ECDSA_P384, "ECDSA {} (using ecdsa-sha2-nistp384)"),
        (KeyAlgorithm.RSA, "RSA {} (using rsa-sha2-512)"),
    ],
)
def test_each_algorithm_of_authority_signs_as_openssh_expects(
    tmp_path: Path, algorithm: KeyAlgorithm, signed_with: str
) -> None:
    """The signature algorithm follows the CA's key; for RSA it is rsa-sha2-512, never ssh-rsa."""
    authority = signer(AuthorityType.USER, algorithm)
    certificate = sign_user(user_claims(), generate_key().public, signer=authority, now=NOW, serial=1)
    expected = f"Signing CA: {signed_with.format(authority.key.public.fingerprint)}"
    assert shown(certificate, tmp_path)[2] == expected


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ED25519, KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384])
def test_fingerprints_and_key_files_are_those_of_ssh_keygen(tmp_path: Path, algorithm: KeyAlgorithm) -> None:
    """ssh-keygen reads our private key file, and names its public key as we do."""
    key, path = generate_key(algorithm), tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(key.to_openssh())
    assert keygen("-y", "-f", path).strip() == key.public.line
    assert keygen("-l", "-f", path).split()[1] == key.public.fingerprint


@dataclass
class Cluster:
    """A cluster with one sshd that trusts its user CA, and serves with a certificate of its host CA."""

    user_ca: Signer
    host_ca: Signer
    key: PrivateKey
    sshd: Sshd

    def login(self, certificate: Certificate | bytes, *, login: str = LOGIN, host: str = "db1.main") -> str:
        """Log in with the real ssh and return what it printed, on either stream."""
        done = self.sshd.ssh(
            host,
            key=self.key.to_openssh(),
            certificate=certificate if isinstance(certificate, bytes) else certificate.line,
            known_hosts=export_authority(self.host_ca.public) + "\n",
            login=login,
        )
        return done.stdout + done.stderr


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Run a cluster for each test: from 9.8 on, sshd holds failures of one address against later attempts."""
    user_ca, host_ca, host_key = signer(AuthorityType.USER), signer(AuthorityType.HOST), generate_key()
    claims = HostClaims(host_id=str(uuid.uuid4()), role=MemberRole.NODE, name="db1", cluster="main", ttl=HOUR)
    certificate = sign_host(claims, host_key.public, signer=host_ca, now=datetime.now(UTC), serial=random_serial())
    with Sshd(
        tmp_path,
        host_key=host_key.to_openssh(),
        host_certificate=certificate.line,
        trusted_user_ca_keys=trusted_user_ca_keys(user_ca.public),
    ) as sshd:
        yield Cluster(user_ca, host_ca, generate_key(), sshd)


def good(cluster: Cluster, *, authority: Signer | None = None, now: datetime | None = None, **changes: object) -> bytes:
    """Return a user certificate for the client's key."""
    return sign_user(
        user_claims(**changes),
        cluster.key.public,
        signer=authority or cluster.user_ca,
        now=now or datetime.now(UTC),
        serial=random_serial(),
    ).line


def test_sshd_lets_the_right_login_in(cluster: Cluster) -> None:
    """With our export as TrustedUserCAKeys, sshd lets in who holds the certificate, and logs its key id and serial."""
    assert cluster.login(good(cluster)).startswith("in\n")
    assert f"Accepted publickey for {LOGIN}" in cluster.sshd.log()
    assert "ID joe (serial" in cluster.sshd.log()


def test_sshd_enforces_the_forced_command(cluster: Cluster) -> None:
    """What the certificate forces is run, and what was asked for is not."""
    assert cluster.login(good(cluster, force_command="echo forced")).startswith("forced\n")


def expired(cluster: Cluster) -> bytes:
    """Return one whose lifetime is over."""
    return good(cluster, now=datetime.now(UTC) - 2 * HOUR)


def not_yet_valid(cluster: Cluster) -> bytes:
    """Return one whose lifetime has not begun."""
    return good(cluster, now=datetime.now(UTC) + HOUR)


def for_another_login(cluster: Cluster) -> bytes:
    """Return one for a login that is not the one it is used for."""
    return good(cluster, logins=("someone-else",))


def from_another_address(cluster: Cluster) -> bytes:
    """Return one for a network that the client is not in."""
    return good(cluster, source_addresses=(ip_network("192.0.2.0/24"),))


def of_another_authority(cluster: Cluster) -> bytes:
    """Return one that another user CA of the same name has signed."""
    return good(cluster, authority=signer(AuthorityType.USER))


def of_a_member(cluster: Cluster) -> bytes:
    """Return a service's own."""
    claims = MemberClaims(host_id=str(uuid.uuid4()), role=MemberRole.NODE, cluster="main", ttl=HOUR)
    now = datetime.now(UTC)
    return sign_member(claims, cluster.key.public, signer=cluster.host_ca, now=now, serial=random_serial()).line


def of_a_member_named_like_the_login(cluster: Cluster) -> bytes:
    """Return what the host CA never signs: a user certificate for the very login."""
    return sign_raw(cluster.host_ca.key, cluster.key.public, principals=[LOGIN])


def of_a_host(cluster: Cluster) -> bytes:
    """Return a host's."""
    claims = HostClaims(host_id=str(uuid.uuid4()), role=MemberRole.NODE, name=LOGIN, cluster="main", ttl=HOUR)
    now = datetime.now(UTC)
    return sign_host(claims, cluster.key.public, signer=cluster.host_ca, now=now, serial=random_serial()).line


def without_principals(cluster: Cluster) -> bytes:
    """Return what the user CA never signs: a certificate for nobody."""
    return sign_raw(cluster.user_ca.key, cluster.key.public, principals=[])


NOT_TRUSTED = "is not listed in"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (expired, "Certificate invalid: expired"),
        (not_yet_valid, "Certificate invalid: not yet valid"),
        (for_another_login, "Certificate invalid: name is not a listed principal"),
        (from_another_address, "not from a permitted source address"),
        (of_another_authority, NOT_TRUSTED),
        (of_a_member, NOT_TRUSTED),
        (of_a_member_named_like_the_login, NOT_TRUSTED),
        (without_principals, "Certificate lacks principal list"),
    ],
)
def test_sshd_refuses(cluster: Cluster, make: Callable[[Cluster], bytes], reason: str) -> None:
    """Sshd refuses each certificate, for the reason that is due; with a right one the same client gets in."""
    refused = cluster.login(make(cluster))
    assert "in\n" not in refused
    assert "Permission denied" in refused
    assert reason in cluster.sshd.log()
    assert "Accepted publickey" not in cluster.sshd.log()
    assert cluster.login(good(cluster)).startswith("in\n")


def of_a_host_by_the_user_authority(cluster: Cluster) -> bytes:
    """Return what the user CA never signs: a host certificate."""
    return sign_raw(
        cluster.user_ca.key, cluster.key.public, principals=[LOGIN], certificate_type=SSHCertificateType.HOST
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [(of_a_host, NOT_TRUSTED), (of_a_host_by_the_user_authority, "Certificate invalid: not a user certificate")],
)
async def test_sshd_refuses_a_host_certificate(cluster: Cluster, make: Callable[[Cluster], bytes], reason: str) -> None:
    """Sshd refuses a host certificate of either authority. asyncssh offers it: ssh itself would not."""

    async def login(certificate: bytes) -> str:
        key = asyncssh.import_private_key(cluster.key.to_openssh())
        async with asyncssh.connect(
            "127.0.0.1",
            cluster.sshd.port,
            username=LOGIN,
            client_keys=[(key, asyncssh.import_certificate(certificate))],
            known_hosts=None,
            config=None,
            agent_path=None,
        ) as connection:
            return str((await connection.run("echo in")).stdout)

    with pytest.raises(asyncssh.PermissionDenied):
        await login(make(cluster))
    assert reason in cluster.sshd.log()
    assert await login(good(cluster)) == "in\n"


@pytest.mark.parametrize("host", ["db1.main", "DB1.main"])
def test_ssh_believes_a_host_under_its_name(cluster: Cluster, host: str) -> None:
    """With our known_hosts line ssh connects to NAME.CLUSTER on any port, in any case, and asks nothing."""
    assert cluster.login(good(cluster), host=host).startswith("in\n")


def test_ssh_refuses_a_host_under_another_name(cluster: Cluster) -> None:
    """A name that the host's certificate does not list is refused, though its authority is trusted for it."""
    refused = cluster.login(good(cluster), host="db2.main")
    assert "in\n" not in refused
    assert "Certificate invalid: name is not a listed principal" in refused


def test_ssh_refuses_a_host_of_another_cluster(cluster: Cluster) -> None:
    """The line is for its cluster's names: under another cluster's name, the same authority is unknown."""
    refused = cluster.login(good(cluster), host="db1.other")
    assert "in\n" not in refused
    assert "Host key verification failed" in refused


def test_ssh_takes_more_names_from_the_export(cluster: Cluster) -> None:
    """A bare name is believed when it was given to the export, and is not when it was not."""
    given = export_authority(cluster.host_ca.public, names=["db1"]) + "\n"
    assert "Host key verification failed" in cluster.login(good(cluster), host="db1")
    done = cluster.sshd.ssh("db1", known_hosts=given, key=cluster.key.to_openssh(), certificate=good(cluster))
    assert done.stdout == "in\n"
