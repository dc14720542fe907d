"""The methods by which an administrator has users."""

from __future__ import annotations

import json
from collections.abc import Mapping

from runtime.api import methods
from runtime.api.credential_messages import CredentialsReply, CredentialsRequest
from runtime.api.messages import Name, Nothing
from runtime.api.people_messages import Invite, InviteRequest, UserEntry, UserList, UserRequest
from runtime.audit.events import EventType
from runtime.auth import changes
from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.parts import Parts
from runtime.auth.invites import check_invite_ttl
from runtime.auth.people import check_given
from runtime.auth.publishing import web_address
from runtime.core.access import rights, user_role
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources import Origin, Role, User, load_documents
from runtime.pki.claims import check_logins, check_user


class UserHandlers:
    """Users and their invites."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.USERS_CREATE, self.create_user)
        dispatcher.on(methods.USERS_INVITE, self.invite_user)
        dispatcher.on(methods.USERS_RESET, self.reset_user)
        dispatcher.on(methods.USERS_CREDENTIALS, self.give_credentials)
        dispatcher.on(methods.USERS_LIST, self.list_users)
        dispatcher.on(methods.USERS_DELETE, self.delete_user)

    async def create_user(self, caller: Caller, params: UserRequest) -> Invite:
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
        user = user.with_origin(Origin.TCTL)
        await self._parts.declared.create(user)
        await self._parts.forget_user(user.name)  # what an earlier user of that name may have left
        self._parts.audit.emit(EventType.RESOURCE_WRITTEN, **changes.of(None, user), by=str(caller))
        return await self._invite(user.name, params, caller)

    async def invite_user(self, caller: Caller, params: InviteRequest) -> Invite:
        """Invite a user who has not signed up; earlier invites end. Raises NotFound, InvalidInput."""
        check_invite_ttl(params.ttl)
        user = await self._parts.declared.get(User, params.name)
        if (await self._parts.credentials.get(user.name)).credentials is not None:
            hint = f"To have it start anew: tctl users reset {user.name}"
            raise InvalidInput(f"user {user.name} has signed up already", hint=hint)
        return await self._invite(user.name, params, caller)

    async def reset_user(self, caller: Caller, params: InviteRequest) -> Invite:
        """Take a user's password and second factor away and invite it anew. Raises NotFound, InvalidInput."""
        check_invite_ttl(params.ttl)
        user = await self._parts.declared.get(User, params.name)
        # Invites first: with one, credentials could come back at once.
        await self._parts.forget_user(user.name)
        self._parts.audit.emit(EventType.USER_RESET, user=user.name, by=str(caller))
        return await self._invite(user.name, params, caller)

    async def give_credentials(self, caller: Caller, params: CredentialsRequest) -> CredentialsReply:
        """Give a user what a Secret holds, unless it has just that. Raises NotFound, InvalidInput."""
        password, seed = params.password.get_secret_value(), params.otp_secret.get_secret_value()
        check_given(password, seed, self._parts.people.second_factor)
        held = await self._parts.people.holds(params.user, password, seed)
        if held or params.check:
            return CredentialsReply(held=held)
        user = await self._parts.declared.get(User, params.user)
        await self._parts.people.give(user.name, password, seed)
        self._parts.audit.emit(EventType.USER_CREDENTIALS, user=user.name, by=str(caller))
        return CredentialsReply(held=False)

    async def list_users(self, caller: Caller, params: Nothing) -> UserList:
        """List all users, with whether they can log in: anybody can lock a name, so only who signed up is locked."""
        persons = {name: held.person for name, held in (await self._parts.credentials.all()).items()}
        locked = await self._parts.attempts.locked(f"user/{name}" for name in persons)
        roles = await self._parts.declared.roles()
        entries = []
        for user in await self._parts.declared.all(User):
            own = user_role(user)
            status = "invited"
            if persons.get(user.name) == (user.metadata.id or ""):
                status = "locked" if f"user/{user.name}" in locked else "active"
            entries.append(
                UserEntry.model_validate(
                    {
                        "name": user.name,
                        "logins": _logins(user, roles),
                        "roles": (*((own.name,) if own else ()), *user.spec.roles),
                        "origin": user.metadata.origin or "",
                        "status": status,
                    }
                )
            )
        return UserList(users=tuple(entries))

    async def delete_user(self, caller: Caller, params: Name) -> Nothing:
        """Delete a user with all that belongs to it. Raises NotFound."""
        removed = await self._parts.declared.remove("User", params.name, Origin.TCTL)
        await self._parts.forget_user(params.name)
        self._parts.audit.emit(
            EventType.USER_DELETED, user=params.name, by=str(caller), changes=changes.changes(removed, None)
        )
        return Nothing()

    async def _invite(self, name: str, params: InviteRequest, caller: Caller) -> Invite:
        invite = await self._parts.invites.mint(name, params.ttl, params.otp)
        self._parts.audit.emit(
            EventType.USER_INVITED, user=name, by=str(caller), expires=f"{invite.expires:%Y-%m-%dT%H:%M:%SZ}"
        )
        proxies = await self._parts.presence.list(CallerKind.PROXY)
        hosts = dict.fromkeys(web_address(entry.presence) for entry in proxies)
        urls = tuple(f"https://{host}/web/newuser/{invite.token}" for host in hosts)
        return Invite(user=name, token=invite.token, expires=invite.expires, urls=urls)


def _model(source: str, data: dict[str, object]) -> User:
    """Return the user that a document describes, checked as one that a person wrote."""
    (resource,) = load_documents(json.dumps({"apiVersion": "teleport.internal/v1", **data}), source=source)
    if not isinstance(resource, User):
        raise InvalidInput(f"{source}: not a user")
    return resource


def _logins(user: User, roles: Mapping[str, Role]) -> tuple[str, ...]:
    """Return what the user may log in to nodes as: its own logins in their order, then those of its roles."""
    try:
        allowed = rights(user, roles).logins
    except AccessDenied:  # no login is left, or a role is missing: nothing would be issued
        return ()
    own = tuple(login for login in user.spec.logins if login in allowed)
    return (*own, *(login for login in allowed if login not in own))
