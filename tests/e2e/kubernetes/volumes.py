"""Disks for PersistentVolumeClaims: folders of this machine, made ahead. There is no provisioner."""

from __future__ import annotations

from pathlib import Path

COUNT = 24
"""How many claims a cluster can take in its life: what was given once is not given again."""
CLASS = "standard"


def documents(folder: Path) -> list[dict[str, object]]:
    """Make the folders below `folder`, and return the default StorageClass and a volume for each of them."""
    storage_class: dict[str, object] = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    return [storage_class, *(_volume(f"disk-{number}", folder) for number in range(COUNT))]


def _volume(name: str, folder: Path) -> dict[str, object]:
    path = folder / name
    path.mkdir(parents=True)
    # A hostPath knows no fsGroup: whoever a pod runs as writes here, as with the provisioner that kind brings.
    path.chmod(0o777)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(path), "type": "Directory"},
        },
    }
