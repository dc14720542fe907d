"""The operator's log: the lines of the other services, with the object that each is about."""

from __future__ import annotations

import logging

from prometheus_client import Counter

from runtime.service.logs import configure as configure_lines
from runtime.service.sections.teleport import Log

OBJECTS = "kopf.objects"
"""kopf's logger of what concerns one object; handlers log there too."""

THROTTLED = "Throttling for"
"""How kopf's message starts when it sets an object aside after an error that is not the handler's."""


class ObjectFilter(logging.Filter):
    """Puts the object's name before what is said of it, and counts those that kopf sets aside."""

    def __init__(self, throttled: Counter) -> None:
        super().__init__()
        self._throttled = throttled

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; every one is shown."""
        if record.msg.startswith(THROTTLED):
            self._throttled.inc()
        if reference := getattr(record, "k8s_ref", None):
            name = "/".join(filter(None, (reference.get("namespace"), reference.get("name"))))
            record.msg = f"{reference.get('kind')} {name}: {record.msg}"  # a name holds no %, which would be formatted
        return True


def configure(log: Log, throttled: Counter) -> None:
    """Send the log where teleport.yaml says. Raises InvalidSettings when syslog is not there."""
    configure_lines(log)
    severity = logging.getLogger("runtime").level
    logging.getLogger("teleport_operator").setLevel(severity)
    objects = logging.getLogger(OBJECTS)
    objects.setLevel(max(severity, logging.INFO))  # at DEBUG kopf shows what it sends
    objects.addFilter(ObjectFilter(throttled))
