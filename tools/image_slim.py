"""Make the image's environment small and quick to start: run once by its own Python, before anything runs from it.

What it removes is never read here: the AWS services that no backend calls, SQLite's extensions, the commands and tests
of libraries, and the models and calls of the Kubernetes client, which the operator does without (it speaks to the API
server by itself). What is left is compiled, with hashes that nobody checks: the root file system is read-only.
"""

from __future__ import annotations

import compileall
import importlib
import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = Path(sysconfig.get_path("purelib"))
SERVICES = {"dynamodb", "dynamodbstreams", "s3", "sso", "sso-oidc", "sts"}
"""What boto3 is asked for, and what it asks itself to find credentials."""
CLIENTS = ("kubernetes/client", "kubernetes/aio/client")
APPLICATION = "app"
"""Where the project itself goes, beside its dependencies."""


def main() -> None:
    """Remove and compile."""
    sys.dont_write_bytecode = True
    for folder in (PACKAGES / "botocore/data").iterdir():
        if folder.is_dir() and folder.name not in SERVICES:
            shutil.rmtree(folder)
    for folder in (PACKAGES / "apsw/sqlite_extra_binaries", *PACKAGES.glob("*/tests")):
        shutil.rmtree(folder)
    for script in (Path(sys.prefix) / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    for name in ("kopf", "kubernetes", "kubernetes.aio"):
        importlib.import_module(name)
    loaded = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    for path in generated():
        if path not in loaded:
            path.unlink()
    application = Path(sys.prefix) / APPLICATION
    (PACKAGES / "teleport.pth").write_text(f"{application}\n")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(PACKAGES, quiet=1, workers=0, invalidation_mode=mode):
        sys.exit("some of it does not compile; see above")


def generated() -> Iterator[Path]:
    """Give the files of the Kubernetes client of which there is one for each kind and each call."""
    for client in CLIENTS:
        for folder in ("api", "models"):
            for path in (PACKAGES / client / folder).glob("*.py"):
                if path.name != "__init__.py":
                    yield path


if __name__ == "__main__":
    main()
