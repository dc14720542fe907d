"""A plan as a person reads it, and as a program does. Nothing is printed here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

from runtime.cli.console import visible
from runtime.core.yaml_marks import show_path
from runtime.reconcile import Action, Change, Plan, Step

Paint = Callable[[str, str], str]
"""Gives a text a colour, or does not."""

MARKS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.ADOPT: (">", "yellow"),
    Action.DELETE: ("-", "red"),
    Action.REFUSE: ("!", "magenta"),
    Action.UNCHANGED: ("=", ""),
}
_COUNTED = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.ADOPT: "to adopt",
    Action.DELETE: "to delete",
    Action.REFUSE: "refused",
    Action.UNCHANGED: "unchanged",
}
_PLAIN = re.compile(r"[A-Za-z0-9_./:*@+-]+")


def as_text(plan: Plan, paint: Paint) -> str:
    """Return the steps, each with its fields, and a line that sums up. What stays as it is, is only counted."""
    lines = [line for step in plan.steps if step.writes or _said(step) for line in _step(step, paint)]
    return "".join(f"{line}\n" for line in (*lines, *([""] if lines else []), summary(plan)))


def summary(plan: Plan) -> str:
    """Return the one line that sums up."""
    if not plan.writes and not plan.refused:
        count = len(plan.steps)
        return f"No difference: {count} {'resource is' if count == 1 else 'resources are'} as declared."
    counts = [f"{len(steps)} {words}" for action, words in _COUNTED.items() if (steps := plan.of(action))]
    return f"Plan: {', '.join(counts)}."


def as_data(plan: Plan) -> dict[str, object]:
    """Return the plan as plain data: all steps, and how many there are of each action."""
    return {
        "steps": [step_data(step) for step in plan.steps],
        "summary": {action.value: len(plan.of(action)) for action in Action},
    }


def step_data(step: Step) -> dict[str, object]:
    """Return a step as plain data."""
    return {
        "action": step.action.value,
        "kind": step.kind,
        "name": step.name,
        "reason": step.reason.value,
        "message": step.message,
        "changes": [{"path": show_path(each.path), "old": each.old, "new": each.new} for each in step.changes],
        "findings": [{"reason": each.reason.value, "message": each.message} for each in step.findings],
    }


def _said(step: Step) -> bool:
    """Return whether a step that changes nothing is still worth a line."""
    return step.action is Action.REFUSE or bool(step.findings)


def _step(step: Step, paint: Paint) -> Iterator[str]:
    mark, colour = MARKS[step.action]
    yield paint(f"{mark} {step.kind} {visible(step.name)}: {visible(step.message)}", colour)
    if step.hint:
        yield f"    hint: {visible(step.hint)}"
    yield from (_change(change, paint) for change in step.changes)
    yield from (paint(f"    ! {visible(finding.message)}", "magenta") for finding in step.findings)


def _change(change: Change, paint: Paint) -> str:
    path = show_path(change.path)
    if change.old is None:
        return paint(f"    + {path}: {value_text(change.new)}", "green")
    if change.new is None:
        return paint(f"    - {path}: {value_text(change.old)}", "red")
    return paint(f"    ~ {path}: {value_text(change.old)} → {value_text(change.new)}", "yellow")


def value_text(value: object) -> str:
    """Return a value on one line, as YAML's flow style has it; nothing in it is obeyed by a terminal."""
    match value:
        case dict():
            return "{" + _joined(f"{value_text(key)}: {value_text(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + _joined(map(value_text, value)) + "]"
        case str() if _PLAIN.fullmatch(value) or value == "(secret)":
            return value
        case str():
            return visible(json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(parts)
