"""The reconciler's way to the documents for who calls auth: tctl. What goes with a document, auth does."""

from __future__ import annotations

import json
from dataclasses import replace

from pydantic import SecretStr

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.credential_messages import CredentialsRequest
from runtime.api.people_messages import Invite, InviteRequest
from runtime.api.resource_messages import ResourceDocument, ResourceQuery, ResourceRef
from runtime.core.defaults import SIGNUP_TTL
from runtime.core.errors import CompareFailed, InvalidInput, InvalidResource, NotFound, TeleportError
from runtime.core.resources import DECLARED, Resource, User, decode, dump
from runtime.reconcile import Actual, Desired, Login


class AuthDocuments:
    """Documents as auth has them. All methods raise what auth raises, and Unavailable."""

    def __init__(self, auth: AuthClient, invites: dict[str, Invite] | None = None) -> None:
        """Put into `invites`, by name, those of users who are created; without it nobody is invited."""
        self._auth = auth
        self._invites = invites

    async def list(self, kind: str) -> list[Actual]:
        """Return all resources of a kind."""
        listed = await self._auth.call(methods.RESOURCES_LIST, ResourceQuery(kind=kind))
        return [_actual(kind, document) for document in listed.resources]

    async def get(self, kind: str, name: str) -> Actual | None:
        """Return one resource, None if there is none."""
        try:
            return _actual(kind, await self._auth.call(methods.RESOURCES_GET, ResourceRef(kind=kind, name=name)))
        except NotFound:
            return None

    async def create(self, desired: Desired, resource: Resource) -> str | None:
        """Have a new resource written; return a token's value if auth made one. Raises AlreadyExists."""
        value = await write_document(self._auth, desired)
        if self._invites is not None and (invite := await invite_new(self._auth, resource)):
            self._invites[resource.name] = invite
        return value

    async def swap(self, desired: Desired, resource: Resource, *, revision: int) -> str | None:
        """Have the one at that revision replaced; return a token's value if auth made one. Raises CompareFailed."""
        return await write_document(self._auth, desired, revision=revision)

    async def delete(self, kind: str, name: str, *, revision: int) -> None:
        """Have the one at that revision deleted. Raises CompareFailed."""
        try:
            await self._auth.call(methods.RESOURCES_REMOVE, ResourceRef(kind=kind, name=name, revision=revision))
        except NotFound as error:
            raise CompareFailed(str(error)) from error


async def write_document(auth: AuthClient, desired: Desired, *, revision: int = 0) -> str | None:
    """Have a document written, over the one at `revision` or as a new one, and its user's credentials given.

    Returns a token's value if auth made one.
    """
    value = None if desired.value is None else SecretStr(desired.value)
    document = ResourceDocument(document=dump(desired.resource), revision=revision, value=value)
    made = (await auth.call(methods.RESOURCES_WRITE, document)).value
    if desired.login is not None and not desired.login.held:
        await auth.call(methods.USERS_CREDENTIALS, _given(desired.resource.name, desired.login, check=False))
    return None if made is None else made.get_secret_value()


async def invite_new(auth: AuthClient, resource: Resource) -> Invite | None:
    """Have a user invited who was created just now, with the ttl of its document.

    None for what is no user, for one with credentials of its own, and where it cannot be done: the user stays.
    """
    if not isinstance(resource, User) or resource.spec.credentials_secret_ref is not None:
        return None
    ttl = resource.spec.invite.ttl if resource.spec.invite else SIGNUP_TTL
    try:
        return await auth.call(methods.USERS_INVITE, InviteRequest(name=resource.name, ttl=ttl))
    except TeleportError:
        return None


async def with_login(auth: AuthClient, desired: Desired) -> Desired:
    """Return the document with whether its user has the credentials of its Secret already.

    Raises InvalidInput for what cannot be credentials.
    """
    if desired.login is None:
        return desired
    name = desired.resource.name
    try:
        held = (await auth.call(methods.USERS_CREDENTIALS, _given(name, desired.login, check=True))).held
    except InvalidInput as error:
        raise InvalidInput(f"the Secret of user {name}: {error}", hint=error.hint) from error
    return replace(desired, login=replace(desired.login, held=held))


def _given(user: str, login: Login, *, check: bool) -> CredentialsRequest:
    password, otp_secret = SecretStr(login.password), SecretStr(login.otp_secret)
    return CredentialsRequest(user=user, password=password, otp_secret=otp_secret, check=check)


def _actual(kind: str, document: ResourceDocument) -> Actual:
    try:
        resource = decode(DECLARED[kind], document.document.encode())
    except InvalidResource as error:
        return Actual(kind, _name_in(document.document), document.revision, None, str(error))
    return Actual(kind, resource.name, document.revision, resource)


def _name_in(document: str) -> str:
    """Return the name of what this version cannot read; the document is JSON, or auth would not have it."""
    try:
        return str(json.loads(document)["metadata"]["name"])
    except (ValueError, KeyError, TypeError):
        return ""
