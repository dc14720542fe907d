"""`tsh login`: from what is typed to keys in ~/.tsh.

Everything that can fail on this machine fails before the one-time code is used up; everything that the proxy answers
is checked before it is stored; and until the last check nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from runtime.cli import console
from runtime.cli.profile import Home, Keys, Profile, Wish, choose_profile
from runtime.cli.tsh_address import parse_fingerprint
from runtime.cli.tsh_certificate import accept, host_authorities
from runtime.cli.tsh_messages import LoginReply, LoginRequest, Ping
from runtime.cli.tsh_refresh import write_openssh
from runtime.cli.tsh_terminal import Asker
from runtime.cli.webclient import TlsTrust, UntrustedCertificate, WebClient
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, InvalidInput, Unavailable
from runtime.pki.keys import generate_key

ACCEPTED_SKEW = timedelta(seconds=60)
"""What certificates are back-dated by: by a clock that is further behind the cluster's they are not valid yet."""


def log_in(wish: Wish, *, home: Home, asker: Asker, now: Callable[[], datetime]) -> tuple[Profile, Keys]:
    """Log in and store what comes of it. Raises TeleportError; then nothing has changed."""
    profile = choose_profile(home, wish.proxy, wish.user)
    client, ping, pin = _reach(profile, wish, asker, now)
    if ping.second_factor not in {"off", "otp"}:
        raise InvalidInput(
            f"cluster {ping.cluster} asks for the second factor {ping.second_factor}, which tsh cannot do yet",
            hint="An administrator can set authentication.second_factor to otp.",
        )
    key = generate_key()
    password = asker.secret("password", f"Enter password for Teleport user {profile.user}: ")
    code = "" if ping.second_factor == "off" else asker.secret("one-time code", "Enter your OTP token: ")
    home.prepare()
    reply = _ask_for_certificate(
        client,
        LoginRequest(user=profile.user, password=password, otp=code, public_key=key.public.line, ttl=wish.ttl),
        code_is_used=bool(code),
    )
    accept(reply, user=profile.user, key=key.public, now=now())
    profile = Profile(
        proxy=profile.proxy,
        user=profile.user,
        pin=pin,
        cluster=reply.cluster,
        ssh_port=ping.ssh_port,
        ssh_host=ping.ssh_host,
        authorities=host_authorities(reply),
    )
    keys = Keys(private=key.to_openssh(), public=f"{key.public.line}\n", certificate=f"{reply.certificate.strip()}\n")
    home.store(profile, keys)
    write_openssh(home, profile, keys)
    return profile, keys


def _reach(profile: Profile, wish: Wish, asker: Asker, now: Callable[[], datetime]) -> tuple[WebClient, Ping, str]:
    """Return a client of a proxy that is believed, what it says of itself, and the pin that it needs, if any."""
    pin = parse_fingerprint(wish.pin) if wish.pin else profile.pin
    client = WebClient(profile.proxy, TlsTrust(pin=pin, anything=wish.insecure))
    if wish.insecure:
        console.say(
            f"warning: --insecure: whoever answers at {profile.proxy} is believed this time; "
            f"it shows the certificate {client.shown_fingerprint()}"
        )
    asked = now()
    try:
        ping = client.ping()
    except UntrustedCertificate as untrusted:
        if pin:
            raise
        pin = _agreed_pin(untrusted, asker)
        client = WebClient(profile.proxy, TlsTrust(pin=pin))
        asked = now()
        ping = client.ping()
    answered = now()
    _check_clock(asked + (answered - asked) / 2, ping.time, wish.ttl)
    return client, ping, pin


def _agreed_pin(untrusted: UntrustedCertificate, asker: Asker) -> str:
    """Return the fingerprint that the person agrees to. Raises what was caught when nobody does."""
    text = f"{untrusted}\nIts fingerprint is {untrusted.fingerprint}"
    try:
        agreed = asker.agrees(
            text, "Did an administrator of the proxy give you this fingerprint? Trust it from now on?"
        )
    except InvalidInput:
        raise untrusted from None
    if not agreed:
        raise AccessDenied("the proxy is not trusted; nothing was sent to it", hint=untrusted.hint) from None
    return untrusted.fingerprint


def _check_clock(ours: datetime, theirs: datetime, ttl: timedelta | None) -> None:
    """Warn of a clock that is off, and refuse one by which the certificate would not be valid."""
    ahead = ours - theirs
    if abs(ahead) <= ACCEPTED_SKEW:
        return
    off = format_duration(timedelta(seconds=abs(round(ahead.total_seconds()))))
    what = f"this machine's clock is {off} {'ahead of' if ahead > timedelta() else 'behind'} the cluster's"
    if ahead < timedelta() or ahead >= (ttl or CERTIFICATE_TTL):
        raise InvalidInput(
            f"{what}: a certificate would not be valid here",
            hint=f"Set the clock of this machine (timedatectl); there it is {theirs:%Y-%m-%d %H:%M:%S} UTC. "
            "If this machine is right, tell an administrator.",
        )
    console.say(f"warning: {what}; the certificate will seem to end that much earlier here")


def _ask_for_certificate(client: WebClient, request: LoginRequest, *, code_is_used: bool) -> LoginReply:
    try:
        return client.login(request)
    except Unavailable as error:
        if code_is_used:
            error.hint = f"{error.hint} The one-time code may be used up: take the next one.".strip()
        raise
