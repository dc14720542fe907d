"""The methods of auth, each from its message to the part that does it and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from runtime.api import messages as m
from runtime.api import methods
from runtime.audit.events import FROM_MEMBERS, EventType
from runtime.audit.log import Audit, Field
from runtime.auth.attempts import Attempts
from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared, known_kind
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.invites import Invite, Invites, check_invite_ttl, no_such_invite
from runtime.auth.issuing import Issuer
from runtime.auth.membership import Members, public_keys
from runtime.auth.otp import provisioning_uri
from runtime.auth.people import People
from runtime.auth.presence import PresenceStore
from runtime.auth.tokens import JoinToken, JoinTokens
from runtime.core.access import rights, user_role
from runtime.core.callers import Caller, CallerKind
from runtime.core.defaults import MIN_CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.resources import Origin, Role, User, load_documents
from runtime.core.resources.names import Labels
from runtime.core.version import __version__
from runtime.pki.claims import check_logins, check_ttl, check_user
from runtime.pki.keys import parse_public_key

_OURS = frozenset({"event", "uid", "time", "server_id"})
"""Fields of an event that its sender cannot set."""

_LABELS: TypeAdapter[Mapping[str, str]] = TypeAdapter(Labels)


class Handlers:
    """Everything that auth does for its callers. Who may call what was decided before (`Dispatcher`)."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        declared: Declared,
        people: People,
        credentials: CredentialStore,
        invites: Invites,
        attempts: Attempts,
        tokens: JoinTokens,
        members: Members,
        presence: PresenceStore,
        issuer: Issuer,
        audit: Audit,
        auth_servers: Callable[[], Sequence[str]],
    ) -> None:
        self._now = now
        self._declared = declared
        self._people = people
        self._credentials = credentials
        self._invites = invites
        self._attempts = attempts
        self._tokens = tokens
        self._members = members
        self._presence = presence
        self._issuer = issuer
        self._audit = audit
        self._auth_servers = auth_servers

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve every method of the table."""
        dispatcher.on(methods.PING, self.ping)
        dispatcher.on(methods.AUTHORITIES, self.authorities)
        dispatcher.on(methods.JOIN, self._members.join)
        dispatcher.on(methods.RENEW, self.renew)
        dispatcher.on(methods.ADMINS_SIGN, self._members.sign_admin)
        dispatcher.on(methods.HEARTBEAT, self.heartbeat)
        dispatcher.on(methods.LEAVE, self.leave)
        dispatcher.on(methods.PRESENCE, self.list_presence)
        dispatcher.on(methods.LOGIN, self.log_in)
        dispatcher.on(methods.SIGNUP_SHOW, self.show_signup)
        dispatcher.on(methods.SIGNUP_COMPLETE, self.complete_signup)
        dispatcher.on(methods.USERS_CREATE, self.create_user)
        dispatcher.on(methods.USERS_RESET, self.reset_user)
        dispatcher.on(methods.USERS_LIST, self.list_users)
        dispatcher.on(methods.USERS_DELETE, self.delete_user)
        dispatcher.on(methods.TOKENS_CREATE, self.create_token)
        dispatcher.on(methods.TOKENS_LIST, self.list_tokens)
        dispatcher.on(methods.TOKENS_DELETE, self.delete_token)
        dispatcher.on(methods.RESOURCES_GET, self.get_resource)
        dispatcher.on(methods.RESOURCES_LIST, self.list_resources)
        dispatcher.on(methods.RESOURCES_WRITE, self.write_resource)
        dispatcher.on(methods.RESOURCES_REMOVE, self.remove_resource)
        dispatcher.on_stream(methods.RESOURCES_WATCH, self.watch_resources)
        dispatcher.on(methods.AUDIT, self.audit_events)

    # --- the cluster ---------------------------------------------------------------------------------------------

    async def ping(self, caller: Caller, params: m.Nothing) -> m.Pong:
        """Say who answers, and what the time is here."""
        return m.Pong(
            cluster=self._issuer.cluster,
            version=__version__,
            time=self._now(),
            second_factor=self._people.second_factor,
        )

    async def authorities(self, caller: Caller, params: m.Nothing) -> m.Authorities:
        """Return the public keys of the cluster's authorities."""
        return m.Authorities(authorities=public_keys(self._issuer.authorities))

    # --- membership ----------------------------------------------------------------------------------------------

    async def renew(self, caller: Caller, params: m.RenewRequest) -> m.Membership:
        """Return new certificates for the identity that was proved. Raises AccessDenied, InvalidInput."""
        with self._audited(caller, methods.RENEW.name):
            return await self._members.renew(caller, params)

    async def heartbeat(self, caller: Caller, params: m.Heartbeat) -> m.HeartbeatReply:
        """Remember a member, and tell it where auth servers are. Raises AccessDenied, InvalidInput."""
        with self._audited(caller, methods.HEARTBEAT.name):
            labels = await self._members.imposed_labels(caller, params.presence.name)
            await self._presence.heartbeat(caller, params.presence, params.ttl, labels)
        return m.HeartbeatReply(auth_servers=tuple(self._auth_servers()))

    @contextmanager
    def _audited(self, caller: Caller, method: str) -> Iterator[None]:
        """Audit that a member who may call the method asked for what it may not have."""
        try:
            yield
        except AccessDenied as error:
            self._audit.emit(
                EventType.CALL_REFUSED,
                method=method,
                caller=f"{caller.kind} {caller.name}",
                error=str(error),
                **{"addr.remote": caller.address},
            )
            raise

    async def leave(self, caller: Caller, params: m.Nothing) -> m.Nothing:
        """Forget a member that stops."""
        await self._presence.leave(caller)
        return m.Nothing()

    async def list_presence(self, caller: Caller, params: m.PresenceQuery) -> m.PresenceList:
        """List the members of a kind."""
        return m.PresenceList(members=tuple(await self._presence.list(params.kind)))

    # --- people --------------------------------------------------------------------------------------------------

    async def log_in(self, caller: Caller, params: m.LoginRequest) -> m.LoginReply:
        """Judge a login and issue a certificate. Raises AccessDenied, InvalidInput."""
        # What cannot be certified must not use up a one-time password.
        parse_public_key(params.public_key)
        if params.ttl is not None and params.ttl < MIN_CERTIFICATE_TTL:
            check_ttl(params.ttl)
        password, code = params.password.get_secret_value(), params.otp.get_secret_value()
        await self._people.log_in(params.user, password, code, params.address)
        try:
            user = await self._declared.get(User, params.user)
        except NotFound:
            raise AccessDenied(f"user {params.user} was deleted", hint="Ask an administrator.") from None
        allowed = rights(user, await self._declared.roles())
        certificate = self._issuer.user(user.name, allowed, params.public_key, params.ttl)
        return m.LoginReply(
            user=user.name,
            certificate=certificate.line.decode().strip(),
            expires=datetime.fromtimestamp(certificate.valid_before, self._now().tzinfo),
            cluster=self._issuer.cluster,
            authorities=public_keys(self._issuer.authorities),
        )

    async def show_signup(self, caller: Caller, params: m.SignupQuery) -> m.SignupForm:
        """Return what the page of a sign-up link shows. Raises AccessDenied."""
        invite = await self._people.show_invite(params.token.get_secret_value(), params.address)
        await self._invited(invite.user)
        uri = provisioning_uri(invite.otp, user=invite.user, issuer=f"Teleport {self._issuer.cluster}")
        return m.SignupForm(
            user=invite.user,
            second_factor=self._people.second_factor,
            otp_uri="" if self._people.second_factor == "off" else uri,
            expires=invite.expires,
        )

    async def complete_signup(self, caller: Caller, params: m.SignupRequest) -> m.Signup:
        """Set password and one-time password of an invited person. Raises AccessDenied, InvalidInput."""
        token, password = params.token.get_secret_value(), params.password.get_secret_value()
        await self._invited((await self._people.show_invite(token, params.address)).user)
        user = await self._people.sign_up(token, password, params.otp.get_secret_value(), params.address)
        return m.Signup(user=user)

    async def _invited(self, user: str) -> None:
        """Refuse to sign up who was deleted since the invite. Raises AccessDenied."""
        try:
            await self._declared.get(User, user)
        except NotFound:
            raise no_such_invite() from None

    async def create_user(self, caller: Caller, params: m.UserRequest) -> m.Invite:
        """Declare a user and invite it. Raises AlreadyExists, InvalidInput."""
        check_invite_ttl(params.ttl)
        check_user(params.name)
        logins = params.logins or (params.name,)
        try:
            check_logins(logins)
        except InvalidInput as error:
            hint = "" if params.logins else f"Say as whom it logs in: tctl users add {params.name} LOGINS"
            raise InvalidInput(str(error), hint=error.hint or hint) from error
        user = _model(
            f"tctl users add {params.name}",
            {"kind": "User", "metadata": {"name": params.name}, "spec": {"logins": list(logins)}},
        )
        await self._declared.create(user.with_origin(Origin.TCTL))
        await self._forget_user(user.name)  # what an earlier user of that name may have left
        self._audit.emit(EventType.RESOURCE_WRITTEN, kind="User", name=user.name, by=str(caller))
        return await self._invite(user.name, params, caller)

    async def reset_user(self, caller: Caller, params: m.InviteRequest) -> m.Invite:
        """Take a user's password and second factor away and invite it anew. Raises NotFound, InvalidInput."""
        check_invite_ttl(params.ttl)
        user = await self._declared.get(User, params.name)
        # Invites first: with one, credentials could come back at once.
        await self._forget_user(user.name)
        self._audit.emit(EventType.USER_RESET, user=user.name, by=str(caller))
        return await self._invite(user.name, params, caller)

    async def list_users(self, caller: Caller, params: m.Nothing) -> m.UserList:
        """List all users, with whether they can log in: anybody can lock a name, so only who signed up is locked."""
        active = await self._credentials.users()
        locked = await self._attempts.locked(f"user/{name}" for name in active)
        roles = await self._declared.roles()
        entries = []
        for user in await self._declared.all(User):
            own = user_role(user)
            status = "active" if user.name in active else "invited"
            if f"user/{user.name}" in locked:
                status = "locked"
            entries.append(
                m.UserEntry.model_validate(
                    {
                        "name": user.name,
                        "logins": _logins(user, roles),
                        "roles": (*((own.name,) if own else ()), *user.spec.roles),
                        "origin": user.metadata.origin or "",
                        "status": status,
                    }
                )
            )
        return m.UserList(users=tuple(entries))

    async def delete_user(self, caller: Caller, params: m.Name) -> m.Nothing:
        """Delete a user with all that belongs to it. Raises NotFound."""
        await self._declared.remove("User", params.name, Origin.TCTL)
        await self._forget_user(params.name)
        self._audit.emit(EventType.USER_DELETED, user=params.name, by=str(caller))
        return m.Nothing()

    async def _forget_user(self, name: str) -> None:
        await self._invites.revoke_of(name)
        await self._credentials.delete(name)
        await self._attempts.forgive(f"user/{name}")

    async def _invite(self, name: str, params: m.InviteRequest, caller: Caller) -> m.Invite:
        invite = await self._invites.mint(name, params.ttl, params.otp)
        self._audit.emit(
            EventType.USER_INVITED, user=name, by=str(caller), expires=f"{invite.expires:%Y-%m-%dT%H:%M:%SZ}"
        )
        proxies = await self._presence.list(CallerKind.PROXY)
        hosts = dict.fromkeys(_web_address(entry.presence) for entry in proxies)
        urls = tuple(f"https://{host}/web/newuser/{invite.token}" for host in hosts)
        return m.Invite(user=name, token=invite.token, expires=invite.expires, urls=urls)

    # --- tokens --------------------------------------------------------------------------------------------------

    async def create_token(self, caller: Caller, params: m.TokenRequest) -> m.TokenCreated:
        """Make a join token. Raises InvalidInput, AlreadyExists."""
        _check_labels(params.labels)
        token = await self._tokens.create(
            params.roles,
            params.ttl,
            value=params.value.get_secret_value() if params.value else None,
            max_uses=params.max_uses,
            labels=params.labels,
        )
        self._audit.emit(EventType.TOKEN_CREATED, roles=list(token.roles), by=str(caller))
        return m.TokenCreated(entry=_entry(token), ca_pin=self.ca_pin(), auth_servers=tuple(self._auth_servers()))

    async def list_tokens(self, caller: Caller, params: m.Nothing) -> m.TokenList:
        """List join tokens and open invites."""
        invites = [_invite_entry(invite) for invite in await self._invites.open()]
        return m.TokenList(tokens=(*map(_entry, await self._tokens.list()), *invites))

    async def delete_token(self, caller: Caller, params: m.TokenValue) -> m.Nothing:
        """Revoke a join token or an invite. Raises NotFound, InvalidInput for a static token."""
        value = params.token.get_secret_value()
        try:
            await self._tokens.revoke(value)
        except NotFound as error:
            try:
                await self._invites.revoke(value)
            except NotFound:
                raise error from None
        self._audit.emit(EventType.TOKEN_DELETED, by=str(caller))
        return m.Nothing()

    def ca_pin(self) -> str:
        """Return the fingerprint that a newcomer checks auth's host CA against (--ca-pin)."""
        return self._issuer.authorities.host.signer.public.key.fingerprint

    # --- resources -----------------------------------------------------------------------------------------------

    async def get_resource(self, caller: Caller, params: m.ResourceRef) -> m.ResourceDocument:
        """Return one declared resource. Raises NotFound."""
        return await self._declared.document(params.kind, params.name)

    async def list_resources(self, caller: Caller, params: m.ResourceQuery) -> m.ResourceList:
        """List the declared resources of a kind."""
        return m.ResourceList(resources=tuple(await self._declared.documents(params.kind)))

    async def write_resource(self, caller: Caller, params: m.ResourceDocument) -> m.ResourceDocument:
        """Write a document from tctl. Raises InvalidResource, AlreadyExists, CompareFailed."""
        (resource, *more) = load_documents(params.document, source="the document")
        if more:
            raise InvalidInput("more than one document", hint="Send them one by one.")
        declared = resource.with_origin(Origin.TCTL)
        written = await self._declared.write(declared, revision=params.revision, overwrite=params.overwrite)
        self._audit.emit(EventType.RESOURCE_WRITTEN, kind=resource.kind, name=resource.name, by=str(caller))
        return written

    async def remove_resource(self, caller: Caller, params: m.ResourceRef) -> m.Nothing:
        """Delete a resource that tctl declared. Raises NotFound, CompareFailed."""
        await self._declared.remove(params.kind, params.name, Origin.TCTL)
        if params.kind == "User":
            await self._forget_user(params.name)
        self._audit.emit(EventType.RESOURCE_REMOVED, kind=params.kind, name=params.name, by=str(caller))
        return m.Nothing()

    async def watch_resources(self, caller: Caller, params: m.ResourceQuery, emit: EmitPiece) -> m.Nothing:
        """Send a snapshot of a kind and then its changes, until the caller gives up."""
        async with aclosing(self._declared.follow(known_kind(params.kind))) as events:
            async for event in events:
                await emit(event)
        return m.Nothing()

    # --- audit ---------------------------------------------------------------------------------------------------

    async def audit_events(self, caller: Caller, params: m.AuditEvents) -> m.Nothing:
        """Log what happened at a member; whose it is, auth says. Raises InvalidInput: then none is logged."""
        for event in params.events:
            if event.event not in FROM_MEMBERS:
                raise InvalidInput(f"{caller.kind} cannot tell of {event.event[:64]!a}", hint="Is auth the older one?")
        for event in params.events:
            told = {name: value for name, value in event.fields.items() if name not in _OURS}
            fields: dict[str, Field] = {
                **told,
                "uid": str(event.uid),
                "time": f"{event.time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "server_id": caller.name,
            }
            self._audit.emit(EventType(event.event), **fields)
        return m.Nothing()


def _model(source: str, data: dict[str, object]) -> User:
    """Return the user that a document describes, checked as one that a person wrote."""
    (resource,) = load_documents(json.dumps({"apiVersion": "teleport.internal/v1", **data}), source=source)
    if not isinstance(resource, User):
        raise InvalidInput(f"{source}: not a user")
    return resource


def _check_labels(labels: dict[str, str]) -> None:
    """Refuse what a document could not name as a node's labels. Raises InvalidInput."""
    try:
        _LABELS.validate_python(labels)
    except ValidationError as error:
        raise InvalidInput(f"the labels of a token: {error.errors()[0]['msg']}") from None


def _logins(user: User, roles: Mapping[str, Role]) -> tuple[str, ...]:
    """Return what the user may log in to nodes as: its own logins in their order, then those of its roles."""
    try:
        allowed = rights(user, roles).logins
    except AccessDenied:  # no login is left, or a role is missing: nothing would be issued
        return ()
    own = tuple(login for login in user.spec.logins if login in allowed)
    return (*own, *(login for login in allowed if login not in own))


def _web_address(presence: m.Presence) -> str:
    return presence.labels.get("web", presence.addr)


def _entry(token: JoinToken) -> m.TokenEntry:
    return m.TokenEntry(token=token.token, roles=token.roles, expires=token.expires, static=token.static)


def _invite_entry(invite: Invite) -> m.TokenEntry:
    return m.TokenEntry(token=invite.token, roles=("signup",), expires=invite.expires)
