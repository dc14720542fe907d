"""The environment, and how kopf is told to behave."""

from __future__ import annotations

import kopf
import pytest

from runtime.core.errors import AccessDenied, InvalidResource, InvalidSettings, Unavailable
from runtime.service.sections.teleport import Severity
from runtime.service.values import Address
from teleport_operator.handlers.edge import as_kopf_error
from teleport_operator.settings import (
    LONGEST_RETRY_SECONDS,
    RECHECK_SECONDS,
    OperatorSettings,
    kopf_settings,
    read_settings,
    retry_delay,
)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is read, and what is not given has a default that suits a cluster with one operator."""
    assert read_settings() == OperatorSettings(lease="teleport-operator", namespaces=(), log_severity=Severity.INFO)
    assert read_settings().diagnostics() is None
    for name, value in {"NAMESPACES": "a, b,", "DIAG_ADDR": "[::1]", "LOG_SEVERITY": "WARN", "LEASE": "x/y"}.items():
        monkeypatch.setenv(f"TELEPORT_OPERATOR_{name}", value)
    settings = read_settings()
    assert (settings.namespaces, settings.lease, settings.log_severity) == (("a", "b"), "x/y", Severity.WARN)
    assert settings.diagnostics() == Address("::1", 3000)


@pytest.mark.parametrize(
    ("name", "value"), [("LOG_SEVERITY", "LOUD"), ("WATCH_SILENCE", "0"), ("WATCH_SILENCE", "soon")]
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message says which variable is wrong."""
    monkeypatch.setenv(f"TELEPORT_OPERATOR_{name}", value)
    with pytest.raises(InvalidSettings, match=f"TELEPORT_OPERATOR_{name}: "):
        read_settings()


def test_a_silent_watch_is_given_up_before_the_probes_complain() -> None:
    """First kopf acts; then the replica is unready; then it is started anew."""
    from teleport_operator.main import DEAD_SECONDS, UNREADY_SECONDS

    silence = kopf_settings(OperatorSettings()).watching.inactivity_timeout
    assert 60 < silence < UNREADY_SECONDS < DEAD_SECONDS  # bookmarks come each minute


def test_kopf_is_told_what_its_defaults_leave_open() -> None:
    """Requests and watches end, nothing waits in line behind a broken object, log lines are no Kubernetes Events."""
    settings = kopf_settings(OperatorSettings())
    assert settings.peering.standalone
    assert settings.networking.request_timeout == 30
    assert settings.watching.server_timeout == 300
    assert settings.queueing.worker_limit is None
    assert (settings.posting.enabled, settings.posting.loggers) == (True, False)
    assert settings.persistence.finalizer == "teleport.internal/operator"


def test_retries_come_ever_later_and_never_together() -> None:
    """From seconds to five minutes, each with a spread; a large number of attempts is no overflow."""
    for retry, least in ((0, 4.0), (1, 8.0), (3, 32.0), (10, 240.0), (100_000, 240.0)):
        delays = {retry_delay(retry) for _ in range(20)}
        assert len(delays) > 10
        assert all(least <= delay <= LONGEST_RETRY_SECONDS * 1.2 for delay in delays)
    assert max(retry_delay(0) for _ in range(20)) <= 6
    assert min(retry_delay(0, RECHECK_SECONDS) for _ in range(20)) >= 240


def test_what_is_away_is_tried_often() -> None:
    """At the latest 36 s after it is back; what is wrong in another way waits for longer, and a document for ever."""
    away, denied = as_kopf_error(Unavailable("away"), 99), as_kopf_error(AccessDenied("no"), 99)
    assert isinstance(away, kopf.TemporaryError)
    assert isinstance(denied, kopf.TemporaryError)
    assert 24 <= (away.delay or 0) <= 36
    assert 240 <= (denied.delay or 0) <= 360
    assert isinstance(as_kopf_error(InvalidResource("wrong"), 0), kopf.PermanentError)
