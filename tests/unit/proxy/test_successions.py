"""What other clusters tell at tunnels reaches auth: the last of each, once, and also an auth that was away."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from runtime.api.client import AuthClient
from runtime.api.succession_messages import Successions
from runtime.core.errors import InvalidInput, TeleportError, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import generate_key
from runtime.pki.succession import standing
from runtime.proxy import successions
from runtime.proxy.successions import Messenger, keys_told


class Auth:
    """Takes what it is told, unless it answers with one of `errors` first."""

    def __init__(self, *errors: TeleportError) -> None:
        self._errors = list(errors)
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.called = asyncio.Condition()

    async def call(self, method: Any, params: Successions) -> Successions:
        """Be told."""
        async with self.called:
            self.told.append((params.cluster, params.statements))
            self.called.notify_all()
        if self._errors:
            raise self._errors.pop(0)
        return params

    async def has(self, count: int) -> None:
        """Wait until it was called so often."""
        async with asyncio.timeout(60), self.called:
            await self.called.wait_for(lambda: len(self.told) >= count)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no pauses."""
    monkeypatch.setattr(successions, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(successions, "SETTLING_SECONDS", 0.0)


async def ended(task: asyncio.Task[None]) -> None:
    """End a messenger."""
    task.cancel()
    await asyncio.wait([task])


async def test_the_last_of_each_cluster_once() -> None:
    """What comes in between is not worth a call, nor is what was told before."""
    auth = Auth()
    messenger = Messenger(cast("AuthClient", auth))
    messenger.heard("main", ("1",))
    messenger.heard("main", ("2",))
    messenger.heard("other", ("x",))
    messenger.heard("silent", ())
    task = asyncio.create_task(messenger.run())
    await auth.has(2)
    messenger.heard("main", ("2",))
    messenger.heard("main", ("3",))
    await auth.has(3)
    assert auth.told == [("main", ("2",)), ("other", ("x",)), ("main", ("3",))]
    # What is trusted has changed: who says it again is heard again.
    messenger.forget()
    messenger.heard("main", ("3",))
    await auth.has(4)
    await ended(task)


async def test_an_auth_that_is_away_hears_it_later() -> None:
    """As often as it takes; what it does not want is not said again."""
    auth = Auth(Unavailable("away"), Unavailable("away"), InvalidInput("no"))
    messenger = Messenger(cast("AuthClient", auth))
    messenger.heard("main", ("1",))
    task = asyncio.create_task(messenger.run())
    await auth.has(3)
    messenger.heard("main", ("2",))
    await auth.has(4)
    assert auth.told == [("main", ("1",))] * 3 + [("main", ("2",))]
    await ended(task)


def test_which_keys_the_latest_name() -> None:
    """A phase that leaves the keys as they are is no reason to tell others."""
    old, new = generate_key(), generate_key()

    def said(number: int, *keys: Any) -> str:
        return standing("a", AuthorityType.HOST, keys=[key.public for key in keys], signers=keys, serial=number).text

    one = (said(1, old, new),)
    assert keys_told(one) == keys_told((*one, said(2, old, new))) == keys_told((said(3, old, new), *one))
    assert keys_told(one) != keys_told((*one, said(2, new)))
    assert keys_told(()) != keys_told(one)
