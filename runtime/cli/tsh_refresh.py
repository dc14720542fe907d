"""The authorities of a login, kept as the cluster has them: they change while somebody is logged in.

Any command that talks to a proxy asks it first, over HTTPS that is believed for the reason that the login was: the pin,
or this machine's own authorities. What has changed is taken into the profile and into OpenSSH's files, so that plain
ssh believes the new keys too. A proxy that does not answer keeps nobody from working with what is known.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from runtime.api.signed import signed_headers
from runtime.cli import tsh_openssh
from runtime.cli.profile import Home, Keys, Profile, own_name
from runtime.cli.tsh_certificate import host_authorities, is_from, read_login
from runtime.cli.tsh_messages import Authorities, AuthorityKeys
from runtime.cli.webclient import TlsTrust, WebClient
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import load_private_key

_PATH = "/webapi/authorities"
_SECONDS = 3.0
"""How long the proxy may take: the command that was asked for waits."""


def refresh(home: Home, profile: Profile, keys: Keys, *, now: datetime) -> Profile:
    """Return the profile with the authorities that its proxy tells now, stored if they are others than were known.

    Raises AccessDenied when the login's own certificate is by a key that has been replaced, with what to do, or when
    another proxy vouches for the same cluster with other authorities.
    """
    if not profile.authorities:
        return profile
    try:
        told = _ask(profile, keys, now)
        hosts = host_authorities(told)
    except TeleportError:
        return profile
    if told.cluster != profile.cluster:
        return profile
    refreshed = replace(profile, authorities=hosts)
    if _keys_of(refreshed) != _keys_of(profile):
        home.refresh(refreshed)
        write_openssh(home, refreshed, keys)
    if not is_from(read_certificate(keys.certificate.encode()), told):
        raise AccessDenied(
            f"the user authority of cluster {told.cluster} has been replaced since you logged in at {profile.proxy}: "
            "your certificate is not good any more",
            hint=f"Log in: tsh --proxy={profile.proxy} --user={profile.user} login",
        )
    return refreshed


def write_openssh(home: Home, profile: Profile, keys: Keys) -> None:
    """Make what `tsh config` has told ~/.ssh/config to use."""
    logins = read_login(read_certificate(keys.certificate.encode())).logins
    for cluster in {each.cluster for each in profile.authorities}:
        # A folder that OpenSSH's files cannot name is told when it matters, by tsh ssh and tsh config.
        with suppress(InvalidInput):
            tsh_openssh.write(home, profile, cluster, tsh_openssh.choose_login(None, logins, own_name()))


def _ask(profile: Profile, keys: Keys, now: datetime) -> Authorities:
    """Return whom the proxy says to believe; without other clusters where it does not take our signature."""
    client = WebClient(profile.proxy, TlsTrust(pin=profile.pin), timeout=_SECONDS)
    headers = signed_headers(
        "GET",
        _PATH,
        cluster=profile.cluster,
        key=load_private_key(keys.private),
        certificate=keys.certificate,
        now=now,
    )
    try:
        reply = client.get(_PATH, headers)
    except AccessDenied:
        reply = client.get(_PATH, {})
    return Authorities(
        cluster=reply.text("cluster"),
        authorities=tuple(
            AuthorityKeys(each.text("cluster"), each.text("type"), each.texts("keys"))
            for each in reply.objects("authorities")
        ),
    )


def _keys_of(profile: Profile) -> set[tuple[str, str]]:
    return {(authority.cluster, key) for authority in profile.authorities for key in authority.keys}
