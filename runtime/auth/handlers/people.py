"""The methods by which people log in and sign up."""

from __future__ import annotations

from datetime import datetime

from runtime.api import methods
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.people_messages import LoginReply, LoginRequest, Signup, SignupForm, SignupQuery, SignupRequest
from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.parts import Parts
from runtime.auth.membership import public_keys
from runtime.auth.otp import provisioning_uri
from runtime.auth.trusted import leaves
from runtime.core.access import rights, still_the_same
from runtime.core.callers import Caller
from runtime.core.defaults import MIN_CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, NotFound
from runtime.core.resources import User
from runtime.pki.claims import check_ttl
from runtime.pki.keys import parse_public_key


class PeopleHandlers:
    """Login and sign-up, as a proxy asks for them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.LOGIN, self.log_in)
        dispatcher.on(methods.SIGNUP_SHOW, self.show_signup)
        dispatcher.on(methods.SIGNUP_COMPLETE, self.complete_signup)

    async def log_in(self, caller: Caller, params: LoginRequest) -> LoginReply:
        """Judge a login and issue a certificate. Raises AccessDenied, InvalidInput."""
        # What cannot be certified must not use up a one-time password.
        parse_public_key(params.public_key)
        if params.ttl is not None and params.ttl < MIN_CERTIFICATE_TTL:
            check_ttl(params.ttl)
        password, code = params.password.get_secret_value(), params.otp.get_secret_value()
        person = await self._parts.people.log_in(params.user, password, code, params.address)
        try:
            user = await self._parts.declared.get(User, params.user)
        except NotFound:
            raise AccessDenied(f"user {params.user} was deleted", hint="Ask an administrator.") from None
        allowed = rights(still_the_same(user, person), await self._parts.declared.roles())
        certificate = self._parts.issuer.user(user.name, allowed, params.public_key, params.ttl, person=person)
        return LoginReply(
            user=user.name,
            certificate=certificate.line.decode().strip(),
            expires=datetime.fromtimestamp(certificate.valid_before, self._parts.now().tzinfo),
            cluster=self._parts.issuer.cluster,
            authorities=(*public_keys(self._parts.issuer.authorities), *self._leaves()),
        )

    def _leaves(self) -> tuple[AuthorityKeys, ...]:
        """Return the host CAs of the clusters where the person may go from here, by which their servers are known."""
        known = leaves(self._parts.trust.view.clusters).values()
        return tuple(AuthorityKeys(cluster=peer.cluster, type="host", keys=peer.host_keys) for peer in known)

    async def show_signup(self, caller: Caller, params: SignupQuery) -> SignupForm:
        """Return what the page of a sign-up link shows. Raises AccessDenied."""
        invite = await self._parts.people.show_invite(params.token.get_secret_value(), params.address)
        uri = provisioning_uri(invite.otp, user=invite.user, issuer=f"Teleport {self._parts.issuer.cluster}")
        return SignupForm(
            user=invite.user,
            second_factor=self._parts.people.second_factor,
            otp_uri="" if self._parts.people.second_factor == "off" else uri,
            expires=invite.expires,
        )

    async def complete_signup(self, caller: Caller, params: SignupRequest) -> Signup:
        """Set password and one-time password of an invited person. Raises AccessDenied, InvalidInput."""
        token, password = params.token.get_secret_value(), params.password.get_secret_value()
        user = await self._parts.people.sign_up(token, password, params.otp.get_secret_value(), params.address)
        return Signup(user=user)
