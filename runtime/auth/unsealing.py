"""What the operator sealed to auth: the credentials of declared users move from their documents into auth's own part.

The operator may write documents and nothing else, and others read documents. So it seals what a User's Secret holds to
a key of auth (`runtime.pki.sealing`); here the box is opened, its content kept as any credentials are, and the box
removed. Of several auth servers each may try: what the first has done, the others find.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import aclosing, suppress

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.alias_generators import to_camel

from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.people import People, check_given
from runtime.backend.base import Backend, Item, Put, Snapshot
from runtime.core import keys
from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, InvalidResource, NotFound, TeleportError
from runtime.core.resources import SealedCredentials, User, decode, encode
from runtime.pki.sealing import SealingKey

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 2.0
"""Before what failed is tried again: the backend is away, or too many passwords are being checked."""


class Content(BaseModel):
    """What is in a box: the values of the Secret's keys."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, extra="ignore")

    password: SecretStr
    otp_secret: SecretStr = SecretStr("")


async def sealing_key(backend: Backend) -> SealingKey:
    """Return the cluster's sealing key, made if there is none, and make sure that its public half can be read."""
    try:
        private = (await backend.get(keys.SEALING_KEY_PRIVATE)).value
    except NotFound:
        try:
            private = (await backend.create(keys.SEALING_KEY_PRIVATE, SealingKey.new().private)).value
        except AlreadyExists:
            private = (await backend.get(keys.SEALING_KEY_PRIVATE)).value
    key = SealingKey.read(private)
    public = base64.b64encode(key.public)
    with suppress(NotFound):
        if (await backend.get(keys.SEALING_KEY)).value == public:
            return key
    await backend.put(keys.SEALING_KEY, public)
    return key


class Unsealing:
    """Takes over what was sealed."""

    def __init__(self, backend: Backend, people: People, audit: Audit, clock: Clock) -> None:
        self._backend = backend
        self._people = people
        self._audit = audit
        self._clock = clock
        self._prefix = keys.resource_prefix("User")

    async def run(self) -> None:
        """Follow users for ever."""
        while True:
            try:
                await self._follow(await sealing_key(self._backend))
            except TeleportError as error:
                logger.warning("credentials from Secrets are not taken over yet: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self, key: SealingKey) -> None:
        async with aclosing(self._backend.watch(self._prefix)) as events:
            async for event in events:
                match event:
                    case Snapshot(items):
                        for item in items:
                            await self._take(item, key)
                    case Put(item):
                        await self._take(item, key)
                    case _:
                        pass

    async def _take(self, item: Item, key: SealingKey) -> None:
        """Take over what one user's document brings, if it brings anything."""
        try:
            user = decode(User, item.value)
        except InvalidResource:
            return  # a newer version's
        sealed = user.metadata.credentials
        if sealed is None or sealed.box is None:
            return
        try:
            await self._give(user.name, sealed.box, key)
        except InvalidInput as error:
            logger.warning("the credentials of user %s are refused: %s", user.name, error)
            said = error.in_full
            after = SealedCredentials(source=sealed.source, problem=said)
        else:
            after = SealedCredentials(source=sealed.source, taken=self._clock.now())
        # Changed meanwhile: then it comes again, by the watch.
        with suppress(CompareFailed, NotFound):
            value = encode(user.with_credentials(None).with_credentials(after))
            await self._backend.compare_and_swap(item.key, value, revision=item.revision)

    async def _give(self, name: str, box: str, key: SealingKey) -> None:
        """Give a user what is in a box, unless it has just that. Raises InvalidInput."""
        try:
            content = Content.model_validate_json(key.open(box, about=f"User/{name}"))
        except ValidationError:
            raise InvalidInput("what was sealed is not a password with the seed of one-time passwords") from None
        password, seed = content.password.get_secret_value(), content.otp_secret.get_secret_value()
        check_given(password, seed, self._people.second_factor)
        with suppress(CompareFailed):  # another auth server gives the same
            if not await self._people.holds(name, password, seed):
                await self._people.give(name, password, seed)
                self._audit.emit(EventType.USER_CREDENTIALS, user=name, by="its document")
                logger.info("user %s has the credentials of its Secret", name)
