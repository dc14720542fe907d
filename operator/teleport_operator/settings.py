"""What the operator needs to know: where the cluster's own settings are, and how kopf should behave."""

from __future__ import annotations

import kopf
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.backend.options import Options
from runtime.service.flags import Flags
from runtime.service.load import load_settings

FINALIZER = "teleport.internal/operator"
"""Keeps a deleted document until the backend has forgotten it. With the operator gone for good, remove it by hand."""

REQUEST_SECONDS = 30
"""How long one request to the API server may take."""

SILENCE_SECONDS = 70
"""A watch without any event for so long is dead: the API server sends a bookmark each minute."""

RETRY_SECONDS = 10
"""The pause after an error that nobody foresaw."""


class OperatorSettings(BaseSettings):
    """The environment, TELEPORT_OPERATOR_…: `config` is the path of the teleport.yaml that auth runs with."""

    model_config = SettingsConfigDict(env_prefix="TELEPORT_OPERATOR_", extra="forbid", frozen=True)

    config: str | None = None

    def backend(self) -> Options:
        """Return what opens the backend that auth uses too. Raises InvalidSettings."""
        return load_settings(Flags(config=self.config)).backend


def configure(settings: kopf.OperatorSettings) -> None:
    """Set kopf up for one operator at a time (the Deployment's strategy is Recreate)."""
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 15
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = 15
    settings.execution.default_backoff = RETRY_SECONDS
    settings.posting.enabled = False  # what a person should see is in status.conditions
    settings.persistence.finalizer = FINALIZER
    # In annotations, under the prefix that documents are read without (`runtime.core.resources.document`).
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="kopf.zalando.org")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="kopf.zalando.org")
