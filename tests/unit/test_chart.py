"""What holds for the chart's own files, without Helm: copies are current, values are known and explained."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from runtime.core.version import __version__

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "teleport"
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
FREE = {"auth.config", "proxy.config", "node.config", "node.securityContext"}
"""What the schema leaves open, beside what Kubernetes knows better."""


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, or the definition that it refers to."""
    name = schema.get("$ref", "").removeprefix("#/definitions/")
    found: dict[str, Any] = SCHEMA["definitions"][name] if name else schema
    return found


def described(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of every value that the schema knows by name."""
    for name, below in resolved(schema).get("properties", {}).items():
        yield f"{path}{name}"
        yield from described(below, f"{path}{name}.")


def written(values: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value in values.yaml."""
    for name, below in values.items() if isinstance(values, dict) else ():
        yield f"{path}{name}"
        if f"{path}{name}" not in FREE:
            yield from written(below, f"{path}{name}.")


def test_the_schema_knows_the_values_and_no_others() -> None:
    """Every value has a default in values.yaml and its type in the schema."""
    defaults = {path for path in written(yaml.safe_load(VALUES)) if ".resources." not in path}
    optional = {"global", "node.image.repository", "node.image.tag", "node.image.digest"}
    assert set(described(SCHEMA)) - optional == defaults


def test_every_value_is_explained() -> None:
    """Above each value that is not plain from its name and place stands what it means."""
    # The settings of pods are Kubernetes' own; they are explained once.
    plain = re.compile(
        r"(resources|podAnnotations|podLabels|nodeSelector|tolerations|affinity|topologySpreadConstraints|priorityClassName"
        r"|extraEnv|extraVolumes|extraVolumeMounts|serviceAccount|podDisruptionBudget|antiAffinity|requests|limits|create"
        r"|name|annotations|enabled|labels|u2f|storage|etcd|dynamodb|pullPolicy|interval|terminationGracePeriodSeconds"
        r"|recordingsRetention|commonAnnotations|tableName|replicas|type|minReplicas|maxReplicas|runAs\w+|drop|allow\w+"
        r"|readOnlyRootFilesystem|capabilities|duration|className|issuerRef|dnsNames|loadBalancerClass|target\w+)$"
    )
    lines = VALUES.splitlines()
    unexplained = [
        line.strip()
        for place, line in enumerate(lines)
        if (found := re.match(r" *([A-Za-z0-9]+):(.*)", line))
        and not plain.match(found[1])
        and not lines[place - 1].strip().startswith("#")
        and found[2].strip()  # a section is explained by its values
    ]
    assert unexplained == []


def test_the_version_is_the_programs() -> None:
    """What the chart installs unless told otherwise is the version beside it."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_definitions_are_current() -> None:
    """The chart's copies are what tools/chart_crds.py makes of crds/; else run it."""
    specification = importlib.util.spec_from_file_location("chart_crds", ROOT / "tools" / "chart_crds.py")
    assert specification is not None
    assert specification.loader is not None
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    sources = {path.name: tool.template(path.name, path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}
    assert sources
    assert {path.name: path.read_text() for path in (CHART / "templates" / "crds").iterdir()} == sources
