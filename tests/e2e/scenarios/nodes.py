"""Nodes that a scenario makes for itself: a pod each, with the Secret of a token, as anybody might write it."""

from __future__ import annotations

import json

from tests.e2e.scenarios.place import API, Object
from tests.e2e.scenarios.release import Release


def token(name: str, **labels: str) -> Object:
    """Return a document of kind Token for nodes, whose Secret is NAME-token."""
    spec = {"roles": ["node"], "ttl": "30m", "labels": labels}
    return {"apiVersion": API, "kind": "Token", "metadata": {"name": name}, "spec": spec}


def node_pod(release: Release, name: str, secret: str) -> Object:
    """Return a pod that joins the release with what is in that Secret, under its own name."""
    values = release.values["image"]
    config = {
        "teleport": {
            "nodename": name,
            "auth_servers": [f"{release.auth_service}:3025"],
            "auth_token": "/etc/join/token",
            "ca_pin": "/etc/join/caPin",
            "log": {"severity": "INFO"},
        },
        "auth_service": {"enabled": False},
        "proxy_service": {"enabled": False},
    }
    shell = f"cat > /tmp/teleport.yaml <<'END'\n{json.dumps(config)}\nEND\nexec teleport start -c /tmp/teleport.yaml"
    container = {
        "name": "node",
        "image": f"{values['repository']}:{values['tag']}",
        "imagePullPolicy": values["pullPolicy"],
        "command": ["sh", "-c", shell],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "join", "mountPath": "/etc/join", "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"scenario": "node"}},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "volumes": [{"name": "join", "secret": {"secretName": secret}}],
        },
    }
