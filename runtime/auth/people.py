"""Signing up and logging in: what a person types, judged."""

from __future__ import annotations

import base64
import logging
from contextlib import suppress

from runtime.api.cluster_messages import SecondFactor
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.attempts import Attempts, LockedOut, source
from runtime.auth.credentials import Credentials, CredentialStore, Stored
from runtime.auth.invites import Invite, Invites, no_such_invite
from runtime.auth.otp import OneTimePassword, accept, new_seed
from runtime.auth.passwords import Passwords, check_password
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, CompareFailed, InvalidInput, NotFound, TeleportError

logger = logging.getLogger(__name__)

MIN_SEED_BYTES = 16
"""RFC 4226 §4, R6: a shared secret has at least 128 bits."""
_SEED_HINT = "Make one: head -c 20 /dev/urandom | base32"
WRONG_OTP_HINT = "Type the six digits that the app shows now; a code works once. Check the clock of the phone."


class People:
    """Judges passwords and one-time passwords. Everything that concerns security is audited here, right or wrong."""

    def __init__(
        self,
        *,
        clock: Clock,
        second_factor: SecondFactor,
        passwords: Passwords,
        credentials: CredentialStore,
        invites: Invites,
        attempts: Attempts,
        audit: Audit,
    ) -> None:
        self._clock = clock
        self.second_factor: SecondFactor = second_factor
        """What a login asks for beside the password; may change while auth runs."""
        self._passwords = passwords
        self._credentials = credentials
        self._invites = invites
        self._attempts = attempts
        self._audit = audit
        self._nobodys_otp = OneTimePassword(seed=new_seed())

    async def show_invite(self, token: str, address: str) -> Invite:
        """Return the open invite of a sign-up link. Raises AccessDenied, or LockedOut for an address that guesses."""
        await self._attempts.check(source(address))
        try:
            return await self._open_invite(token)
        except AccessDenied as error:
            await self._failed("", address, str(error), subjects=(source(address),))
            raise

    async def sign_up(self, token: str, password: str, code: str, address: str) -> str:
        """Complete an invite and return its user's name.

        The write of the credentials is what uses the invite up: a sign-up that is interrupted before has changed
        nothing, one that is interrupted after is complete. One whose invite is revoked meanwhile is taken back.
        Raises AccessDenied, InvalidInput for a password or code to be typed again.
        """
        invite = await self.show_invite(token, address)
        check_password(password)
        otp = None
        if self.second_factor != "off":
            counter = accept(invite.otp, code, self._clock.now())
            if counter is None:
                await self._failed(invite.user, address, "wrong one-time password at sign-up")
                raise InvalidInput("the one-time password is not right", hint=WRONG_OTP_HINT)
            otp = invite.otp.model_copy(update={"counter": counter})
        hashed = await self._passwords.hash(password)
        old = await self._credentials.get(invite.user)
        _check_open(invite, old)
        try:
            new = await self._credentials.replace(
                invite.user, old, Credentials(password=hashed, otp=otp, invite=invite.id)
            )
        except CompareFailed:
            raise _used() from None
        try:
            await self._invites.use_up(invite)
        except (NotFound, CompareFailed):
            with suppress(CompareFailed):
                await self._credentials.delete(invite.user, revision=new.revision)
            await self._failed(invite.user, address, "the invite was revoked during sign-up")
            raise no_such_invite() from None
        await self._invites.revoke_of(invite.user)
        await self._attempts.forgive(_user(invite.user))
        self._audit.emit(EventType.USER_SIGNUP, user=invite.user, **{"addr.remote": address})
        return invite.user

    async def holds(self, user: str, password: str, seed: str) -> bool:
        """Return whether the user's password and the seed of its one-time passwords are these; no seed for none."""
        known = (await self._credentials.get(user)).credentials
        right = await self._passwords.verify(known.password if known else None, password)
        return right and known is not None and (known.otp.seed if known.otp else "") == seed

    async def give(self, user: str, password: str, seed: str) -> None:
        """Give a user this password and this seed in place of all that it could prove itself with, invites included.

        Raises CompareFailed when something else gave it others meanwhile.
        """
        hashed = await self._passwords.hash(password)
        old = await self._credentials.get(user)
        before = old.credentials.otp if old.credentials else None
        otp = OneTimePassword(seed=seed) if seed else None
        if before is not None and before.seed == seed:
            otp = before  # codes that were used stay used
        await self._credentials.replace(user, old, Credentials(password=hashed, otp=otp))
        await self._invites.revoke_of(user)
        await self._attempts.forgive(_user(user))

    async def log_in(self, user: str, password: str, code: str, address: str) -> str:
        """Return which person this is, if it is the user; the code is then used up.

        Raises AccessDenied with the same words for an unknown user, a wrong password and a wrong code, LockedOut after
        too many of them, CompareFailed never: of two logins with one code, the second is a wrong code.
        """
        try:
            await self._attempts.check(source(address))
            await self._attempts.begin(_user(user))
        except LockedOut as error:
            await self._failed(user, address, str(error))
            raise
        try:
            stored = await self._credentials.get(user)
            right = await self._is(stored, user, password, code)
        except BaseException:
            # Nobody judged it: too many people log in at once, the backend is away, or we stop.
            with suppress(TeleportError):
                await self._attempts.withdraw(_user(user))
            raise
        if not right:
            await self._failed(user, address, "access denied", subjects=(_user(user), source(address)))
            raise AccessDenied("wrong user name, password or one-time password", hint=WRONG_OTP_HINT)
        await self._attempts.forgive(_user(user))
        await self._attempts.forgive(source(address))
        self._audit.emit(EventType.AUTH, user=user, success="true", **{"addr.remote": address})
        return stored.person or ""

    async def _is(self, stored: Stored, user: str, password: str, code: str) -> bool:
        known = stored.credentials
        right = await self._passwords.verify(known.password if known else None, password)
        if self.second_factor == "off":
            return right
        # Every path tries the code, so that the time of an answer does not tell which half was wrong.
        counter = accept((known.otp if known else None) or self._nobodys_otp, code, self._clock.now())
        if not right or counter is None or known is None or known.otp is None:
            return False
        used = known.model_copy(update={"otp": known.otp.model_copy(update={"counter": counter})})
        try:
            await self._credentials.replace(user, stored, used)
        except CompareFailed:
            return False
        return True

    async def _open_invite(self, token: str) -> Invite:
        invite = await self._invites.find(token)
        _check_open(invite, await self._credentials.get(invite.user))
        return invite

    async def _failed(self, user: str, address: str, error: str, *, subjects: tuple[str, ...] = ()) -> None:
        """Audit a failure, and count it against the subjects."""
        logger.warning("refused %a at %s: %s", user, address, error)
        self._audit.emit(EventType.AUTH, user=user, success="false", error=error, **{"addr.remote": address})
        for subject in subjects:
            if await self._attempts.fail(subject):
                self._audit.emit(EventType.USER_LOCKED, user=user, locked=subject, **{"addr.remote": address})


def check_given(password: str, seed: str, second_factor: SecondFactor) -> None:
    """Refuse what nobody could log in with, or somebody could guess. Raises InvalidInput, which shows neither."""
    check_password(password)
    if not seed:
        if second_factor != "off":
            raise InvalidInput(
                "this cluster asks for one-time passwords", hint="Put their seed into the key otpSecret."
            )
        return
    try:
        size = len(base64.b32decode(seed))
    except ValueError:
        raise InvalidInput("the seed of one-time passwords is not base32", hint=_SEED_HINT) from None
    if size < MIN_SEED_BYTES:
        raise InvalidInput(f"the seed of one-time passwords has fewer than {MIN_SEED_BYTES * 8} bits", hint=_SEED_HINT)


def _user(name: str) -> str:
    return f"user/{name}"


def _check_open(invite: Invite, stored: Stored) -> None:
    """Refuse an invite that was used, or that is of somebody who is gone. Raises AccessDenied."""
    if stored.person is None or invite.person != stored.person:
        raise no_such_invite()
    if stored.credentials is not None and stored.credentials.invite == invite.id:
        raise _used()


def _used() -> AccessDenied:
    return AccessDenied(
        "this sign-up link was used just now",
        hint="If that was you, log in: tsh login. If not, tell an administrator at once.",
    )
