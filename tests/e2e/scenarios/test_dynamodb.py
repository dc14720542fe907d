"""The chart on DynamoDB, with the operator as a Deployment; and what `helm uninstall` leaves where it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.scenarios.place import Kubernetes, until
from tests.e2e.scenarios.release import Release, release
from tests.e2e.scenarios.someone import newcomer
from tests.servers import image
from tests.servers.dynamodb_local import DynamoDBLocal


@pytest.fixture
def on_dynamodb(kubernetes: Kubernetes, tmp_path: Path) -> Iterator[Release]:
    """Install the chart with a node."""
    with DynamoDBLocal(tmp_path / "dynamodb") as server:
        store = {
            "region": "eu-west-1",
            "tableName": "teleport.state",
            "endpoint": f"http://{kubernetes.here}:{urlsplit(server.endpoint).port}",
            "credentialsSecretName": "aws",
        }
        values = {"storage": {"type": "dynamodb", "dynamodb": store}, "node": {"enabled": True}}
        keys = {"AWS_ACCESS_KEY_ID": "AKIDSCENARIO", "AWS_SECRET_ACCESS_KEY": "none"}
        with release(kubernetes, "scenario-dynamodb", image.reference(), 2, values) as made:
            made.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws"}, "stringData": keys})
            made.install()
            yield made


def test_on_dynamodb_and_uninstalled(on_dynamodb: Release, tmp_path: Path) -> None:
    """A declared user gets in. After `helm uninstall` pods are gone, what was declared stands, and comes true again."""
    on_dynamodb.wait_pods("proxy", 1)
    (node,) = on_dynamodb.wait_pods("node", 1)
    eve = newcomer(on_dynamodb, tmp_path, "eve", logins=("root",))
    eve.until_in(f"root@{node}")
    on_dynamodb.uninstall()
    until(lambda: not on_dynamodb.get("pods")["items"], "no pod is left", on_dynamodb)
    assert on_dynamodb.get("user.teleport.internal", "eve")["spec"]["logins"] == ["root"]
    assert eve.ssh(f"root@{node}", "true").returncode == 255
    on_dynamodb.install()
    (again,) = on_dynamodb.wait_pods("node", 1)
    eve.until_in(f"root@{again}")
