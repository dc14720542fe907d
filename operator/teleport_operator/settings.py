"""What the operator needs to know: where the cluster's own settings are, and how kopf should behave."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Literal

import kopf
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.core.errors import InvalidInput, InvalidSettings
from runtime.core.resources.names import ADDRESS_PATTERN
from runtime.service.flags import Flags
from runtime.service.load import load_settings
from runtime.service.sections.teleport import Log, Severity
from runtime.service.settings import Settings
from runtime.service.values import Address, parse_address
from teleport_operator.kubernetes.digests import DigestStorage

FINALIZER = "teleport.internal/operator"
"""Keeps a deleted document until the backend has forgotten it. With the operator gone for good, remove it by hand."""

PREFIX = "kopf.zalando.org"
"""Of kopf's annotations; documents are read without them (`runtime.core.resources.document`)."""

REQUEST_SECONDS = 30
"""How long one request to the API server may take."""

WATCH_SECONDS = 300
"""How long one watch lasts before it is opened anew."""

SILENCE_SECONDS = 70
"""The API server sends a bookmark each minute, and remembers what happened for 75 s."""

REQUEST_BACKOFFS = (0.5, 1, 2, 3, *[5] * 8)
"""Seconds between attempts of a request while the API server is away or overloaded; 5 s at the most."""

DIAG_PORT = 3000
"""As for `--diag-addr` of the other services, if none is given."""

FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 300.0
LONGEST_AWAY_SECONDS = 30.0
"""While the backend or the API server is away: somebody who was deleted meanwhile is out so soon after it is back."""
RECHECK_SECONDS = 300.0
"""For a document that is right, but cannot be carried out: what changes in the backend brings it back before that."""

HINT = "See docs/operator.md for the variables TELEPORT_OPERATOR_… and what they hold."


class OperatorSettings(BaseSettings):
    """The environment, TELEPORT_OPERATOR_…, as docs/operator.md has it."""

    model_config = SettingsConfigDict(env_prefix="TELEPORT_OPERATOR_", extra="forbid", frozen=True)

    config: str | None = None
    """The path of the teleport.yaml that auth runs with."""
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Whose documents are reconciled; all, if empty."""
    lease: str = "teleport-operator"
    """NAME or NAMESPACE/NAME of the Lease of which one replica holds one; by default in our own namespace."""
    documents: Path | None = None
    """A folder of Tokens and TrustedClusters that become objects of our own namespace: what a release declares."""
    diag_addr: str | None = None
    """HOST:PORT of /healthz, /readyz and /metrics; off, if not given."""

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, (each.strip() for each in value.split(",")))) if isinstance(value, str) else value

    watch_silence: Annotated[float, Field(gt=0)] = SILENCE_SECONDS
    """Seconds after which a watch on which nothing comes in, not even a bookmark, is opened anew."""
    log_severity: Severity = Severity.INFO
    """The least severe entry to show; where they go is teleport.yaml's `log.output`."""

    proxy_addr: Annotated[str, Field(pattern=ADDRESS_PATTERN)] | Literal[""] = ""
    """HOST:PORT of the proxy's HTTPS in sign-up links, in place of what the proxies announce."""
    auth_servers: str = ""
    """Goes into the Secrets of tokens as `authServers`, for who joins: HOST:PORT, with commas."""

    def cluster(self) -> Settings:
        """Return the cluster's settings: storage and log are used. Raises InvalidSettings."""
        return load_settings(Flags(config=self.config))

    def log(self, cluster: Settings) -> Log:
        """Return how to log: where the cluster's settings say, as much as ours do."""
        return cluster.teleport.log.model_copy(update={"severity": self.log_severity})

    def diagnostics(self) -> Address | None:
        """Return where to serve probes and metrics. Raises InvalidSettings."""
        if self.diag_addr is None:
            return None
        try:
            return parse_address(self.diag_addr, default_port=DIAG_PORT)
        except InvalidInput as error:
            raise InvalidSettings(f"TELEPORT_OPERATOR_DIAG_ADDR: {error}", hint=HINT) from error


def read_settings() -> OperatorSettings:
    """Return the environment's settings. Raises InvalidSettings."""
    try:
        return OperatorSettings()
    except ValidationError as error:
        wrong = "; ".join(
            f"TELEPORT_OPERATOR_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in error.errors()
        )
        raise InvalidSettings(wrong, hint=HINT) from error


def kopf_settings(own: OperatorSettings) -> kopf.OperatorSettings:
    """Return how kopf should behave; the Lease sees to it that one replica at a time does."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    # For some namespaces, no right to look at all of them is asked for: the CRDs have to be there before the operator.
    settings.scanning.disabled = bool(own.namespaces)
    # Silent watches are opened anew; what was missed is listed then.
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.client_timeout = WATCH_SECONDS + 30
    settings.watching.connect_timeout = 5
    settings.watching.inactivity_timeout = own.watch_silence
    settings.watching.reconnect_backoff = 0.5
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = REQUEST_BACKOFFS
    settings.networking.enforce_retry_after = False  # the longer of both
    settings.queueing.worker_limit = None  # a broken object waits on its own, never in front of others
    settings.queueing.error_delays = (1, 2, 5, 10, 30, 60, 120, 300)
    settings.execution.default_backoff = 30
    # kopf.event() is posted as a Kubernetes Event; log lines are not.
    settings.posting.enabled = True
    settings.posting.loggers = False
    settings.posting.reporting_component = "teleport-operator"
    settings.posting.event_name_prefix = "teleport-"
    settings.process.ultimate_exiting_timeout = 25  # below a pod's grace of 30 s
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    settings.persistence.diffbase_storage = DigestStorage(prefix=PREFIX)
    return settings


def retry_delay(retry: int, first: float = FIRST_RETRY_SECONDS, longest: float = LONGEST_RETRY_SECONDS) -> float:
    """Return for how many seconds to leave a document alone after its attempt number `retry` (from 0) has failed.

    It starts at `first`, doubles up to `longest` and varies by a fifth, so that a thousand that failed
    together do not come back together.
    """
    delay = min(first * 2.0 ** min(retry, 16), longest)
    return delay * random.uniform(0.8, 1.2)  # noqa: S311 (spreads load, guards nothing)
