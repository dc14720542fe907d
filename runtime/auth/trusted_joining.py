"""The leaf's side of trust: what TrustedClusters ask for is made so, by whichever auth server comes first.

    pinned CA keys      become the record at once
    a token             is shown to the root; what it answers becomes the record, and the token is forgotten
    deleted             so is the record, and what was told of it

A kill at any point leaves what the next start completes: the root gives the same answer for the same token again. What
came of it lies in `public/trusted/NAME` for tctl and the operator.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtime.api.trust_messages import RootReply
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.authorities import Authorities
from runtime.auth.followed_record import followed_key
from runtime.auth.trusted import TrustedView, is_trusted
from runtime.auth.trusted_exchange import NotTrusted, Root, exchange
from runtime.auth.trusted_record import Side, encode_record, fingerprints, new_record, record_key
from runtime.auth.unsealing import sealing_key
from runtime.backend.base import Backend
from runtime.core import keys
from runtime.core.errors import (
    AlreadyExists,
    CompareFailed,
    InvalidInput,
    InvalidResource,
    NotFound,
    TeleportError,
)
from runtime.core.resources import TrustedCluster, decode, encode
from runtime.core.resources.authority import AuthorityType
from runtime.core.resources.trusted_cluster import TrustMeans
from runtime.core.trust_status import PREFIX as STATUS
from runtime.core.trust_status import TrustReason, TrustStatus
from runtime.pki.export import parse_authorities
from runtime.pki.keys import parse_public_key
from runtime.pki.sealed_token import sealed, token_in
from runtime.pki.trust import AuthorityKey, Trust

logger = logging.getLogger(__name__)

CLAIM = timedelta(seconds=40)
"""How long one auth server may take for an exchange before another tries: longer than two requests' timeouts."""
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
"""Between two tries: each pause is a random part of a bound that doubles up to this."""

Exchange = Callable[[Root, str, Authorities, Callable[[], datetime]], Awaitable[RootReply]]


@dataclass(frozen=True, slots=True)
class _Try:
    """One exchange under way, and for what: another token or another address makes it a new one."""

    digest: str
    address: str
    task: asyncio.Task[None]


class TrustKeeper:
    """Makes trust in roots so, and keeps what is told of it current."""

    def __init__(
        self,
        backend: Backend,
        authorities: Authorities,
        view: TrustedView,
        audit: Audit,
        now: Callable[[], datetime],
        *,
        exchange: Exchange = exchange,
        rng: random.Random | None = None,
    ) -> None:
        self._backend = backend
        self._authorities = authorities
        self._view = view
        self._audit = audit
        self._now = now
        self._exchange = exchange
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._tries: dict[str, _Try] = {}

    async def run(self) -> None:
        """Follow, until cancelled."""
        try:
            async with aclosing(self._view.changes()) as changes:
                async for _ in changes:
                    await self._settle_all()
        finally:
            tasks = [each.task for each in self._tries.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle_all(self) -> None:
        documents = dict(self._view.documents)
        for name in [name for name in self._tries if name not in documents]:
            self._give_up(name)
        for name, record in dict(self._view.records).items():
            if record.side is Side.ROOT and name not in documents:
                await self._guard(name, self._forget(name))
        told = await self._told()
        for name in told - set(documents):
            with suppress(NotFound, TeleportError):
                await self._backend.delete(STATUS + name)
        for name, document in documents.items():
            await self._guard(name, self._settle(document))

    async def _guard(self, name: str, work: Awaitable[None]) -> None:
        """Keep one cluster's trouble from the others; the next change is another chance."""
        try:
            await work
        except TeleportError as error:
            logger.error("trusted cluster %s: %s", name, error.in_full)  # noqa: TRY400 - no bug of ours

    async def _told(self) -> set[str]:
        try:
            return {item.key.removeprefix(STATUS) for item in (await self._backend.range(STATUS)).items}
        except TeleportError as error:
            logger.warning("what is told of trusted clusters cannot be read: %s", error)
            return set()

    async def _settle(self, document: TrustedCluster) -> None:
        """Do what there is to do for one document, and say how it stands."""
        name, means = document.name, document.metadata.means
        digest = means.digest if means is not None else ""
        if name == self._authorities.cluster:
            self._give_up(name)
            text = f"this cluster is called {name} itself; a TrustedCluster bears the name of the root"
            return await self._tell(name, digest, TrustReason.OWN_NAME, text)
        if not document.spec.enabled:
            self._give_up(name)
            text = "it is disabled: spec.enabled is false"
            return await self._tell(name, digest, TrustReason.DISABLED, text, ended=True)
        if means is None:
            self._give_up(name)
            text = f"its Secret {document.secret()[0]} was not given; apply it with the document"
            return await self._tell(name, digest, TrustReason.SECRET_NOT_FOUND, text, ended=True)
        if means.token is not None:  # as an earlier version left it
            await self._seal(name, means)
        record = self._view.records.get(name)
        if means.ca is not None:
            self._give_up(name)
            if not is_trusted(document, record):
                return await self._pin(document, means.ca, means.digest)
        elif record is None or record.means != means.digest:
            if means.has_token:
                self._begin(document)
            if not is_trusted(document, record):
                return None  # what comes of it is told by who tries
        elif means.has_token:
            await self._replace(name, means, means.without_token())
        assert record is not None  # noqa: S101 - it is trusted, or this is over
        now = self._view.current(name)
        if now is not None and now.ended:
            return await self._tell(name, digest, TrustReason.CA_REPLACED, _replaced(name, now.ended), ended=True)
        known = now or record
        return await self._tell_trusted(name, digest, (*known.host_keys, *known.user_keys))

    # --- pinned keys ----------------------------------------------------------------------------------------------

    async def _pin(self, document: TrustedCluster, exported: str, digest: str) -> None:
        """Take the pinned keys for the root's, or say why not."""
        name = document.name
        secret, key = document.secret()
        try:
            found = parse_authorities(exported, source=f"Secret {secret}, {key}")
            host, user = self._of(name, found, f"Secret {secret}, {key}")
        except InvalidInput as error:
            text = f"{error}. {error.hint}".rstrip(". ") + "."
            return await self._tell(name, digest, TrustReason.KEYS_INVALID, text, ended=True)
        await self._trust(name, host, user, digest)
        return await self._tell_trusted(name, digest, (*host, *user))

    def _of(self, name: str, found: list[AuthorityKey], source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return host and user keys of that cluster. Raises InvalidInput for others', ours among them, or none."""
        for each in found:
            if each.cluster != name:
                raise InvalidInput(
                    f"{source}: it holds the {each}, not of {name}",
                    hint="A TrustedCluster bears the name of the root; export its keys there: tctl auth export",
                )
        own = self._authorities.trust
        if any(own.find(each.key.blob) is not None for each in found):
            raise InvalidInput(f"{source}: it holds a key of this very cluster", hint="Export the root's: on the root")
        Trust(found)  # the same key as user CA and as host CA
        host, user = (
            tuple(each.key.line for each in found if each.type is kind)
            for kind in (AuthorityType.HOST, AuthorityType.USER)
        )
        if not host or not user:
            raise InvalidInput(
                f"{source}: it holds no {'host' if not host else 'user'} CA", hint="Both are needed: tctl auth export"
            )
        return host, user

    # --- a token --------------------------------------------------------------------------------------------------

    def _begin(self, document: TrustedCluster) -> None:
        """Have the token shown to the root, unless that is under way."""
        means, address = document.metadata.means, document.spec.proxy.web_addr
        assert means is not None  # noqa: S101 - said by who calls
        assert address is not None  # noqa: S101 - a document with a token has one
        running = self._tries.get(document.name)
        if running is not None and (running.digest, running.address) == (means.digest, address):
            return
        self._give_up(document.name)
        task = asyncio.create_task(self._try(document.name, means.digest))
        self._tries[document.name] = _Try(means.digest, address, task)

    def _give_up(self, name: str) -> None:
        if (running := self._tries.pop(name, None)) is not None:
            running.task.cancel()

    async def _try(self, name: str, digest: str) -> None:
        """Exchange until it has succeeded, or until only another document or Secret can help."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if await self._attempt(name, digest):
                    return
            except NotTrusted as error:
                logger.warning("trusted cluster %s: %s", name, error.in_full)
                with suppress(TeleportError):
                    await self._tell(name, digest, error.reason, f"{error}. {error.hint}".strip())
                if error.final:
                    self._audit.emit(EventType.TRUST_REFUSED, cluster=name, side=Side.ROOT.value, error=str(error))
                    return
            except TeleportError as error:
                logger.warning("trusted cluster %s: %s", name, error)
            await asyncio.sleep(self._rng.uniform(pause / 2, pause))
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)

    async def _attempt(self, name: str, digest: str) -> bool:
        """Exchange once; return whether there is nothing left to do. Raises NotTrusted, and what the storage raises."""
        document = decode(TrustedCluster, (await self._backend.get(keys.resource("TrustedCluster", name))).value)
        means, address = document.metadata.means, document.spec.proxy.web_addr
        if means is None or means.digest != digest or not means.has_token or address is None:
            return True  # changed, or another auth server was quicker
        token = await self._token(document, means)
        if token is None:
            return True
        claim = f"{keys.AUTHORITY}/trusting/{name}"
        try:
            claimed = await self._backend.create(claim, b"{}", expires=self._now() + CLAIM)
        except AlreadyExists:
            return False  # another auth server is at it
        try:
            text, ended = f"the token is being shown to the proxy at {address}", not self._trusts(document)
            await self._tell(name, digest, TrustReason.PENDING, text, ended=ended)
            root = Root(name, address, means.ca_pin)
            reply = await self._exchange(root, token, self._authorities, self._now)
            found = [
                AuthorityKey(kind, name, key)
                for kind, lines in ((AuthorityType.HOST, reply.host_keys), (AuthorityType.USER, reply.user_keys))
                for key in map(parse_public_key, lines)
            ]
            try:
                host, user = self._of(name, found, f"the answer of {address}")
            except InvalidInput as error:
                raise NotTrusted(TrustReason.KEYS_INVALID, str(error), hint=error.hint, final=True) from error
            await self._trust(name, host, user, digest)
        finally:
            with suppress(NotFound, CompareFailed, TeleportError):
                await self._backend.delete(claim, revision=claimed.revision)
        return True

    def _trusts(self, document: TrustedCluster) -> bool:
        """Tell whether the cluster is trusted while its new token is being shown."""
        return is_trusted(document, self._view.records.get(document.name))

    async def _token(self, document: TrustedCluster, means: TrustMeans) -> str | None:
        """Return the token. One that was sealed to another key is given up, as if its Secret had not been given."""
        name = document.name
        try:
            return token_in(means, await sealing_key(self._backend), cluster=name)
        except InvalidInput as error:
            logger.warning("trusted cluster %s: %s; its Secret has to be given again", name, error)
            await self._replace(name, means, None)
            return None

    async def _seal(self, name: str, means: TrustMeans) -> None:
        """Seal a token that lies there as it is."""
        public = (await sealing_key(self._backend)).public
        await self._replace(name, means, sealed(means, public, cluster=name))

    async def _replace(self, name: str, means: TrustMeans, new: TrustMeans | None) -> None:
        """Write other means in place of those; whoever changed the document meanwhile leads to another look."""
        with suppress(NotFound, CompareFailed):
            item = await self._backend.get(keys.resource("TrustedCluster", name))
            current = decode(TrustedCluster, item.value)
            if current.metadata.means == means:
                await self._backend.compare_and_swap(item.key, encode(current.with_means(new)), revision=item.revision)

    # --- records --------------------------------------------------------------------------------------------------

    async def _trust(self, name: str, host: tuple[str, ...], user: tuple[str, ...], digest: str) -> None:
        record = new_record(name, Side.ROOT, host_keys=host, user_keys=user, means=digest, now=self._now())
        await self._backend.put(record_key(name), encode_record(record))
        logger.info("cluster %s is trusted, as its TrustedCluster says", name)
        self._audit.emit(
            EventType.TRUST_BEGUN, cluster=name, side=Side.ROOT.value, fingerprints=list(fingerprints((*host, *user)))
        )

    async def _forget(self, name: str) -> None:
        """Forget a root whose document is gone, if that is still so."""
        try:
            await self._backend.get(keys.resource("TrustedCluster", name))
        except NotFound:
            record = self._view.records.get(name)
            with suppress(NotFound):
                await self._backend.delete(followed_key(name))
            with suppress(NotFound):
                await self._backend.delete(record_key(name))
                if record is not None:
                    logger.info("cluster %s is trusted no more: its TrustedCluster was deleted", name)
                    reason = "its TrustedCluster was deleted"
                    self._audit.emit(EventType.TRUST_ENDED, cluster=name, side=Side.ROOT.value, reason=reason)

    async def _tell_trusted(self, name: str, digest: str, found: tuple[str, ...]) -> None:
        await self._tell(name, digest, TrustReason.TRUSTED, "its authorities are known", fingerprints(found))

    async def _tell(
        self,
        name: str,
        digest: str,
        reason: TrustReason,
        message: str,
        prints: tuple[str, ...] = (),
        *,
        ended: bool = False,
    ) -> None:
        """Have it known how it stands with what its Secret holds, if that is news.

        `ended`: nothing of the cluster is trusted now; where it was, that is audited, by whoever tells it first.
        """
        content = encode(TrustStatus(reason=reason, message=message, fingerprints=prints, digest=digest))
        told = await self._replace_told(name, content)
        if ended and told is not None and _was_trusted(told):
            logger.info("cluster %s is trusted no more: %s", name, message)
            self._audit.emit(EventType.TRUST_ENDED, cluster=name, side=Side.ROOT.value, reason=message)

    async def _replace_told(self, name: str, content: bytes) -> bytes | None:
        """Write what is told of a cluster, and return what was told before; None for nothing, or nothing else."""
        while True:
            try:
                before = await self._backend.get(STATUS + name)
                if before.value == content:
                    return None
                await self._backend.compare_and_swap(before.key, content, revision=before.revision)
            except NotFound:
                await self._backend.put(STATUS + name, content)
                return None
            except CompareFailed:  # another auth server has told something in this moment
                continue
            return before.value


def _was_trusted(told: bytes) -> bool:
    try:
        return decode(TrustStatus, told).trusted
    except InvalidResource:  # a newer version's
        return False


def _replaced(name: str, ended: tuple[str, ...]) -> str:
    which = " and ".join(f"its {each} CA" for each in sorted(ended))
    return (
        f"cluster {name} has replaced {which} in an emergency, and its old keys say that nobody is to follow them. "
        "Nothing of it is trusted. Give it trust anew: a new token, or its new keys, in the Secret."
    )
