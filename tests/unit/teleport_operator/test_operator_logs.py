"""What is said of an object starts with its name."""

from __future__ import annotations

import logging

from prometheus_client import Counter

from teleport_operator.logs import ObjectFilter

REFERENCE = {"kind": "User", "namespace": "web", "name": "joe"}


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    """Return a record as a logger of kopf makes it."""
    made = logging.LogRecord("kopf.objects", logging.INFO, "", 0, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_the_object_is_named() -> None:
    """Kind, namespace and name stand before the message, with arguments or a bare percent sign in it."""
    names = ObjectFilter(Counter("unused_one", "…", registry=None))
    for given, shown in (
        (record("%s: %s", "user joe", "written", k8s_ref=REFERENCE), "User web/joe: user joe: written"),
        (record("100 % done", k8s_ref=REFERENCE), "User web/joe: 100 % done"),
        (record("no object"), "no object"),
    ):
        assert names.filter(given)
        assert given.getMessage() == shown


def test_objects_that_kopf_sets_aside_are_counted() -> None:
    """Its message about throttling is the only sign of it."""
    counter = Counter("unused_two", "…", registry=None)
    names = ObjectFilter(counter)
    names.filter(record("Throttling for 5 seconds due to an unexpected error: %r", ValueError(), k8s_ref=REFERENCE))
    names.filter(record("all is well", k8s_ref=REFERENCE))
    assert [sample.value for metric in counter.collect() for sample in metric.samples if "total" in sample.name] == [1]
