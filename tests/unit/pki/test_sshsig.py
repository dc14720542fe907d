"""Signatures over messages: ssh-keygen takes ours and we take ssh-keygen's; nothing else passes for one."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512

from runtime.core.errors import AccessDenied
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.sshsig import MAX_SIGNATURE_BYTES, sign, verify
from runtime.pki.wire import Reader, mpint
from tests.unit.pki.forging import sign_raw, string

NAMESPACE = "test@teleport.internal"
MESSAGE = b"GET /webapi/nodes\nmain\n2026-11-22T20:15:00Z\n"
KEYS = {
    "ed25519": generate_key(),
    "ecdsa-256": PrivateKey(ec.generate_private_key(ec.SECP256R1())),
    "ecdsa-384": PrivateKey(ec.generate_private_key(ec.SECP384R1())),
    "ecdsa-521": PrivateKey(ec.generate_private_key(ec.SECP521R1())),
    "rsa": PrivateKey(rsa.generate_private_key(65537, 3072)),
}
each_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


def write_key(folder: Path, key: PrivateKey) -> Path:
    """Write the key as a file that ssh-keygen takes."""
    path = folder / "key"
    path.touch(mode=0o600)
    path.write_text(key.to_openssh())
    return path


def keygen(*arguments: str | Path, message: bytes = MESSAGE) -> subprocess.CompletedProcess[bytes]:
    """Run `ssh-keygen -Y`."""
    assert shutil.which("ssh-keygen")
    return subprocess.run(["ssh-keygen", "-Y", *arguments], input=message, capture_output=True, timeout=30, check=False)


def armored(blob: bytes) -> bytes:
    """Return a signature as the file that ssh-keygen reads."""
    lines = base64.encodebytes(blob)
    return b"-----BEGIN SSH SIGNATURE-----\n" + lines + b"-----END SSH SIGNATURE-----\n"


def keygens(folder: Path, key: PrivateKey, *options: str, namespace: str = NAMESPACE) -> bytes:
    """Return the signature that ssh-keygen makes."""
    done = keygen("sign", "-q", "-f", write_key(folder, key), "-n", namespace, *options)
    assert done.returncode == 0, done.stderr
    return base64.b64decode(b"".join(done.stdout.splitlines()[1:-1]))


@each_key
def test_ssh_keygen_takes_ours(tmp_path: Path, key: PrivateKey) -> None:
    """`-Y verify` and `-Y check-novalidate` take our signature, and neither for another message or namespace."""
    signature, allowed = tmp_path / "sig", tmp_path / "allowed"
    signature.write_bytes(armored(sign(key, MESSAGE, namespace=NAMESPACE)))
    allowed.write_text(f"joe {key.public.line}\n")
    verifying: list[str | Path] = ["verify", "-f", allowed, "-I", "joe", "-s", signature, "-n"]
    checking: list[str | Path] = ["check-novalidate", "-s", signature, "-n"]
    for command in (verifying, checking):
        done = keygen(*command, NAMESPACE)
        assert done.returncode == 0, done.stderr
        assert key.public.fingerprint.encode() in done.stdout
        assert keygen(*command, NAMESPACE, message=MESSAGE + b"x").returncode != 0
        assert keygen(*command, "file").returncode != 0


@each_key
def test_ours_takes_what_ssh_keygen_makes(tmp_path: Path, key: PrivateKey) -> None:
    """A signature of `-Y sign` is verified, and refused for another message, namespace or key."""
    blob = keygens(tmp_path, key)
    verify(blob, MESSAGE, key.public, namespace=NAMESPACE)
    with pytest.raises(AccessDenied, match="does not fit"):
        verify(blob, MESSAGE[:-1], key.public, namespace=NAMESPACE)
    with pytest.raises(AccessDenied, match=r"is for b'test@teleport\.internal', not for 'file'"):
        verify(blob, MESSAGE, key.public, namespace="file")
    with pytest.raises(AccessDenied, match="by another key"):
        verify(blob, MESSAGE, generate_key().public, namespace=NAMESPACE)


def test_a_known_signature() -> None:
    """Ed25519 signs the same each time: what ssh-keygen 9.2 made with the key of the bytes 0 to 31."""
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    known = (
        "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbgAAA"
        "AWdGVzdEB0ZWxlcG9ydC5pbnRlcm5hbAAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUxOQAAAECggo8poB+o"
        "71HO7/LNGGOdK0aVwB3pH6UcoqBgHEvOBanJHukw/XRtjl5S6OqFQAdHUEJ/sHItY/Oz6gViU40C"
    )
    assert base64.b64encode(sign(key, MESSAGE, namespace=NAMESPACE)).decode() == known


def test_another_hash_is_refused(tmp_path: Path) -> None:
    """With SHA-256, which ssh-keygen makes when it is told to, a signature is good for OpenSSH and not for us."""
    blob = keygens(tmp_path, KEYS["ed25519"], "-O", "hashalg=sha256")
    with pytest.raises(AccessDenied, match="sha512 is due"):
        verify(blob, MESSAGE, KEYS["ed25519"].public, namespace=NAMESPACE)


def with_fields(blob: bytes, **changes: bytes) -> bytes:
    """Return a signature with other fields."""
    reader = Reader(blob)
    head = reader.skip(10)
    names = ("key", "namespace", "reserved", "hash", "signature")
    fields = {name: reader.string() for name in names} | changes
    return changes.get("head", head) + b"".join(string(fields[name]) for name in names)


def refuses(blob: bytes, key: PrivateKey, reason: str) -> None:
    """See that it is refused, for that reason."""
    with pytest.raises(AccessDenied, match=reason):
        verify(blob, MESSAGE, key.public, namespace=NAMESPACE)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda blob: b"", "cannot be read"),
        (lambda blob: blob[:-1], "middle of a field"),
        (lambda blob: blob + b"\0", "bytes follow its last field"),
        (lambda blob: b"SSHSIX" + blob[6:], "no SSH signature"),
        (lambda blob: with_fields(blob, head=b"SSHSIG\0\0\0\x02"), "version that is not known"),
        (lambda blob: with_fields(blob, reserved=b"x"), "reserved"),
        (lambda blob: with_fields(blob, signature=string(b"ssh-ed25519")), "cannot be read"),
        (lambda blob: with_fields(blob, signature=string(b"ssh-ed25519") + string(b"\0" * 64)), "does not fit"),
        (lambda blob: with_fields(blob, signature=string(b"ssh-ed25519") + string(b"")), "does not fit"),
        (lambda blob: with_fields(blob, signature=string(b"ssh-rsa") + string(b"\0" * 64)), "does not fit"),
        (lambda blob: with_fields(blob, signature=b"\xff" * 8), "middle of a field"),
        (lambda blob: with_fields(blob, namespace=b""), "is for b''"),
        (lambda blob: with_fields(blob, namespace=NAMESPACE.encode() + b"\0"), "is for"),
        (lambda blob: blob + b"x" * MAX_SIGNATURE_BYTES, f"{MAX_SIGNATURE_BYTES} is the most"),
    ],
)
def test_what_is_malformed_is_refused(forge: Callable[[bytes], bytes], reason: str) -> None:
    """Whatever is wrong with the bytes is an AccessDenied that says what."""
    key = KEYS["ed25519"]
    refuses(forge(sign(key, MESSAGE, namespace=NAMESPACE)), key, reason)


@each_key
def test_the_algorithm_is_the_key_s(key: PrivateKey) -> None:
    """A good signature under another algorithm's name, or with something behind it, is refused."""
    blob = sign(key, MESSAGE, namespace=NAMESPACE)
    reader = Reader(blob)
    reader.skip(10)
    *_, signature = (reader.string() for _ in range(5))
    inner = Reader(signature)
    name, raw = inner.string(), inner.string()
    verify(with_fields(blob, signature=string(name) + string(raw)), MESSAGE, key.public, namespace=NAMESPACE)
    for other in (b"ssh-ed25519", b"ecdsa-sha2-nistp256", b"ssh-rsa", b"rsa-sha2-256", b""):
        if other != name:
            refuses(with_fields(blob, signature=string(other) + string(raw)), key, "does not fit")
    refuses(with_fields(blob, signature=signature + b"\0"), key, "bytes follow")


def test_a_certificate_in_the_place_of_the_key_is_refused() -> None:
    """OpenSSH signs so with a certificate; for us it is another key than the plain one."""
    key = KEYS["ed25519"]
    certificate = base64.b64decode(sign_raw(generate_key(), key.public, principals=["joe"]).split()[1])
    refuses(with_fields(sign(key, MESSAGE, namespace=NAMESPACE), key=certificate), key, "by another key")


@pytest.mark.parametrize(("algorithm", "hashing"), [(b"ssh-rsa", SHA1()), (b"rsa-sha2-256", SHA256())])  # noqa: S303 - the point
def test_an_rsa_signature_is_sha_512(algorithm: bytes, hashing: SHA1 | SHA256) -> None:
    """One that the right key made over the right bytes with a weaker hash is refused, whatever algorithm it names."""
    key = KEYS["rsa"]
    blob = sign(key, MESSAGE, namespace=NAMESPACE)
    crypto = key.crypto
    assert isinstance(crypto, rsa.RSAPrivateKey)
    covered = b"SSHSIG" + b"".join(map(string, (NAMESPACE.encode(), b"", b"sha512", sha512(MESSAGE).digest())))
    good = string(b"rsa-sha2-512") + string(crypto.sign(covered, PKCS1v15(), SHA512()))
    verify(with_fields(blob, signature=good), MESSAGE, key.public, namespace=NAMESPACE)
    raw = crypto.sign(covered, PKCS1v15(), hashing)
    for named in (algorithm, b"rsa-sha2-512"):
        refuses(with_fields(blob, signature=string(named) + string(raw)), key, "does not fit")


def test_an_ecdsa_signature_has_one_form() -> None:
    """Numbers with a needless zero before them, negative ones, and a third number are refused."""
    key = KEYS["ecdsa-256"]
    blob = sign(key, MESSAGE, namespace=NAMESPACE)
    reader = Reader(blob)
    reader.skip(10)
    for _ in range(4):
        reader.string()
    inner = Reader(reader.string())
    algorithm, numbers = inner.string(), Reader(inner.string())
    r, s = numbers.mpint(), numbers.mpint()

    def forged(raw: bytes) -> bytes:
        return with_fields(blob, signature=string(algorithm) + string(raw))

    verify(forged(mpint(r) + mpint(s)), MESSAGE, key.public, namespace=NAMESPACE)
    for raw in (
        mpint(r) + mpint(s) + mpint(1),
        string(b"\0\0" + mpint(r)[4:]) + mpint(s),
        mpint(0) + mpint(0),
        string(b"\xff" * 32) + mpint(s),
    ):
        refuses(forged(raw), key, "does not fit")
