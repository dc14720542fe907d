"""A plan in the words of a terminal."""

from __future__ import annotations

import json

import pytest

from runtime.cli.tctl.plan_text import as_data, as_text, value_text
from runtime.core.resources import Origin
from tests.unit.reconcile.documents import World, role, trusted_cluster, user


def plain(text: str, colour: str) -> str:
    """Return the text as it is."""
    return text


def marked(text: str, colour: str) -> str:
    """Return the text with the name of its colour."""
    return f"{colour}|{text}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("dev", "dev"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a, b", '"a, b"'),
        ("\x1b[2J\u202e", '"\\u001b[2J\\u202e"'),
        ("line\nline", '"line\\nline"'),
        (True, "true"),
        (10, "10"),
        (["a", "b c"], '[a, "b c"]'),
        ({"env": ["x"], "\x1b": None}, '{env: [x], "\\u001b": null}'),
        ([], "[]"),
    ],
)
def test_values(value: object, text: str) -> None:
    """On one line, as YAML writes it; a terminal obeys nothing in it."""
    assert value_text(value) == text


async def test_everything_that_a_plan_can_say() -> None:
    """Marks, fields, what to do, what is amiss, and the sum."""
    world = World()
    await world.put(role("dev", "a"), role("old"), user("joe"), role("same"), origin=Origin.TCTL)
    await world.put(user("ann"), user("eve"), origin=Origin.CONFIG)
    ann = user("ann", "x", annotations={"teleport.internal/adopt": "true", "note": "\x1b[31m"})
    planned = await world.plan(
        role("dev", "a", "b"),
        role("same"),
        ann,
        user("eve"),
        trusted_cluster("main", "no"),
        prune=True,
    )
    assert as_text(planned, marked) == (
        "yellow|~ Role dev: is not as declared\n"
        "yellow|    ~ spec.allow.logins: [a] → [a, b]\n"
        "green|+ TrustedCluster main: is new\n"
        "green|    + spec.proxy.tunnelAddr: main:3024\n"
        "green|    + spec.caSecretRef.name: main-ca\n"
        "green|    + spec.roleMap: [{remote: admin, local: [no]}]\n"
        "magenta|    ! cannot be trusted without its Secret main-ca, which was not given\n"
        "magenta|    ! has the role no, which does not exist: maps to nothing there\n"
        "yellow|> User ann: was declared by config\n"
        'green|    + metadata.annotations["teleport.internal/adopt"]: true\n'
        'green|    + metadata.annotations.note: "\\u001b[31m"\n'
        "yellow|    ~ spec.logins: [ann] → [x]\n"
        "magenta|! User eve: user eve is declared by config, not by tctl\n"
        "    hint: Change it there, choose another name, or annotate the document: "
        'teleport.internal/adopt: "true" takes it over.\n'
        "red|- User joe: no document declares it any more\n"
        "red|- Role old: no document declares it any more\n"
        "\n"
        "Plan: 1 to create, 1 to update, 1 to adopt, 2 to delete, 1 refused, 1 unchanged.\n"
    )
    assert json.loads(json.dumps(as_data(planned)))["summary"]["delete"] == 2


async def test_nothing_to_do() -> None:
    """One line."""
    world = World()
    await world.put(role("dev"), origin=Origin.TCTL)
    assert as_text(await world.plan(role("dev")), plain) == "No difference: 1 resource is as declared.\n"
