"""What every handler works with; main.py puts it into kopf's memo as `context`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from runtime.backend.base import Backend
from runtime.core.clock import Clock
from teleport_operator.facts import Facts
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.metrics import OperatorMetrics
from teleport_operator.objects import Objects, Ref


@dataclass(frozen=True, slots=True)
class Context:
    """The open backend, the time, the API server for what kopf does not do, what is counted, and known.

    `deadlines`: when an object wants to be looked at because something of it ends then.
    """

    backend: Backend
    clock: Clock
    api: ApiServer
    metrics: OperatorMetrics
    objects: Objects = field(default_factory=Objects)
    facts: Facts = field(default_factory=Facts)
    deadlines: dict[Ref, datetime] = field(default_factory=dict)
