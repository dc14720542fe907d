"""The operator's entry: `kopf run -m teleport_operator.main --all-namespaces` (or --namespace=NAME)."""

from __future__ import annotations

from typing import Any

import kopf

from runtime.backend.open import open_backend
from runtime.core.clock import SystemClock
from runtime.core.errors import TeleportError
from teleport_operator.context import Context
from teleport_operator.handlers import users
from teleport_operator.settings import OperatorSettings, configure

__all__ = ["users"]  # importing a handler's module registers it


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, logger: kopf.Logger, **_: Any) -> None:
    """Open the backend. Settings that are wrong end the operator; a backend that is away is tried again by kopf."""
    configure(settings)
    clock = SystemClock()
    try:
        options = OperatorSettings().backend()
        memo.context = Context(await open_backend(options, clock=clock), clock)
    except TeleportError as error:
        raise users.as_kopf_error(error) from error
    logger.info("the backend is open: %s", type(options).__name__.removesuffix("Options").lower())


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Close the backend."""
    if "context" in memo:
        await memo.context.backend.close()


@kopf.on.login()
def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, else by KUBECONFIG.

    kopf would import the whole client library of Kubernetes for this; that alone is 100 MB.
    """
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
