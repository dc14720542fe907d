"""How a leaf catches up with its root, and has it catch up, where no tunnel comes up any more.

Whoever was away for a whole rotation knows only keys that have gone, and refuses the other's tunnel. What each says of
its authorities proves itself, so the leaf's auth takes it over the root's HTTPS, whoever that is: it tells ours, and is
told theirs. With a tunnel there is nothing to ask for: it carries the same.

    POST /webapi/trust/successions    {"cluster", "statements"}; the answer is the same of the root
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import aiohttp
from pydantic import ValidationError

from runtime.api.succession_messages import Successions
from runtime.api.tunnel_messages import ProxyTunnels
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_exchange import TIMEOUT_SECONDS, NotTrusted, Root, call
from runtime.auth.trusted_following import Following
from runtime.auth.trusted_tunnels import summed_up
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

PATH = "/webapi/trust/successions"
LOOK_SECONDS = 5.0
"""Between two looks at whether there is a tunnel."""
FIRST_PAUSE_SECONDS = 10.0
MAX_PAUSE_SECONDS = 60.0
"""Between two questions to a root without a tunnel; each pause is a random part of a bound that doubles up to this."""

Ask = Callable[[Root, Successions], Awaitable[Successions]]


async def ask(root: Root, own: Successions) -> Successions:
    """Tell a root what our authorities say, and return what its own say. Raises NotTrusted."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        # Any certificate will do: nothing here is secret, and nothing is believed for who sends it.
        answer = await call(session, root, "POST", PATH, own.model_dump(mode="json"), False)
    try:
        return Successions.model_validate(answer)
    except ValidationError:
        raise Unavailable(f"{root.address} does not say anything of its authorities") from None


@dataclass(slots=True)
class _Root:
    """When a root is asked next (the loop's seconds), and the bound of the pause after that."""

    address: str
    due: float
    pause: float = FIRST_PAUSE_SECONDS
    error: str = ""


class CatchingUp:
    """Asks the roots of this cluster that have a web address and no tunnel."""

    def __init__(
        self,
        cluster: str,
        view: TrustedView,
        following: Following,
        tunnels: Callable[[], Awaitable[Iterable[ProxyTunnels]]],
        *,
        ask: Ask = ask,
        rng: random.Random | None = None,
    ) -> None:
        """`tunnels` tells which there are."""
        self._cluster = cluster
        self._view = view
        self._following = following
        self._tunnels = tunnels
        self._ask = ask
        self._rng = rng or random.Random()  # noqa: S311 - spreads questions, guards nothing
        self._roots: dict[str, _Root] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._view.ready.wait()
        while True:
            try:
                await self.look()
            except TeleportError as error:
                logger.info("it is not known which tunnels there are: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask those that are due. Raises what the storage raises."""
        now = asyncio.get_running_loop().time()
        wanted = {
            name: document.spec.proxy.web_addr
            for name, document in self._view.documents.items()
            if document.spec.enabled and document.spec.proxy.web_addr and name in self._view.given
        }
        before = self._roots
        self._roots = {
            name: before[name] if name in before and before[name].address == address else _Root(address, now)
            for name, address in wanted.items()
        }
        if not wanted:
            return
        reported = list(await self._tunnels())
        asking = []
        for name, root in self._roots.items():
            if summed_up(name, reported).connected:
                root.due, root.pause = now, FIRST_PAUSE_SECONDS
            elif now >= root.due:
                root.due = now + self._rng.uniform(root.pause / 2, root.pause)
                root.pause = min(MAX_PAUSE_SECONDS, 2 * root.pause)
                asking.append(self._catch_up(name, root))
        await asyncio.gather(*asking)

    async def _catch_up(self, name: str, root: _Root) -> None:
        own = Successions(cluster=self._cluster, statements=self._view.clusters.statements)
        try:
            told = await self._ask(Root(name, root.address, None), own)
            await self._following.learn(name, told.statements)
        except (NotTrusted, TeleportError) as error:
            if str(error) != root.error:
                logger.info("cluster %s does not tell of its authorities: %s", name, error)
            root.error = str(error)
        else:
            root.error = ""
