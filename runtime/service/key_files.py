"""The clusters of `auth_service.trusted_clusters`, whose CA keys are in files (manual, "Trusted Clusters")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from runtime.api.trust_messages import TrustedPeer
from runtime.core.errors import InvalidInput, InvalidSettings
from runtime.core.resources.authority import AuthorityType
from runtime.pki.export import parse_authorities
from runtime.pki.trust import AuthorityKey, Trust
from runtime.service.sections.auth import TrustedClusterFile
from runtime.service.trusting import authority_keys

SETTING = "auth_service.trusted_clusters"
MAX_FILE_BYTES = 64 * 1024


def read_trusted_clusters(written: Sequence[TrustedClusterFile]) -> tuple[TrustedPeer, ...]:
    """Return the clusters of these entries, by name. Raises InvalidSettings, naming entry and file."""
    peers = [_read(entry, f"{SETTING}[{place}]") for place, entry in enumerate(written)]
    names = [peer.cluster for peer in peers]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidSettings(
            f"{SETTING}: cluster {twice[0]} is there twice", hint="Put all keys of one cluster into one file."
        )
    return tuple(sorted(peers, key=lambda peer: peer.cluster))


def check_foreign(peers: Iterable[TrustedPeer], cluster: str, own: Trust) -> None:
    """Refuse a cluster that trusts itself. Raises InvalidSettings."""
    for peer in peers:
        if peer.cluster == cluster:
            raise InvalidSettings(
                f"{SETTING}: cluster {cluster} is this very cluster, which cannot trust itself",
                hint="Take the export of the other cluster; two that know each other need names of their own.",
            )
        for key in _keys(peer):
            if own.find(key.key.blob) is not None:
                raise InvalidSettings(
                    f"{SETTING}: the key {key.key.fingerprint} of cluster {peer.cluster} is this cluster's own",
                    hint="Export the keys on the other cluster: tctl auth export.",
                )


def _read(entry: TrustedClusterFile, where: str) -> TrustedPeer:
    try:
        with Path(entry.key_file).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidSettings(
            f"{where}.key_file: {entry.key_file} cannot be read: {error.strerror}",
            hint="Write it on the other cluster, tctl auth export > FILE, and copy it here.",
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{where}.key_file: {entry.key_file} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        keys = parse_authorities(content.decode(errors="replace"), source=entry.key_file)
    except InvalidInput as error:
        raise InvalidSettings(f"{where}.key_file: {error}", hint=error.hint) from error
    try:
        Trust(keys)
    except InvalidInput as error:
        raise InvalidSettings(f"{where}.key_file: {entry.key_file}: {error}", hint=error.hint) from error
    clusters = sorted({key.cluster for key in keys})
    if len(clusters) > 1:
        raise InvalidSettings(
            f"{where}.key_file: {entry.key_file} holds keys of several clusters: {', '.join(clusters)}",
            hint="Give each cluster an entry and a file of its own.",
        )
    host, user = (
        tuple(dict.fromkeys(key.key.line for key in keys if key.type is kind))
        for kind in (AuthorityType.HOST, AuthorityType.USER)
    )
    if not host:
        raise InvalidSettings(
            f"{where}.key_file: {entry.key_file} holds no host CA, by which the servers of {clusters[0]} are known",
            hint="Export both: tctl auth export, without --type.",
        )
    if entry.allow_logins and not user:
        raise InvalidSettings(
            f"{where}.allow_logins: {entry.key_file} holds no user CA, by which the users of {clusters[0]} are known",
            hint="Export both: tctl auth export, without --type.",
        )
    return TrustedPeer(
        cluster=clusters[0],
        tunnel_addr=str(entry.tunnel_addr) if entry.tunnel_addr else "",
        host_keys=host,
        user_keys=user,
        allow_logins=entry.allow_logins,
    )


def _keys(peer: TrustedPeer) -> Iterable[AuthorityKey]:
    return (key for kind in AuthorityType for key in authority_keys(peer, kind))
