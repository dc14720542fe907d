"""From options to a backend, with no more imported than is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.backend.memory import MemoryBackend
from runtime.backend.open import open_backend
from runtime.backend.options import DynamoDBOptions, MemoryOptions, SqliteOptions
from runtime.backend.sqlite import SqliteBackend
from runtime.core.clock import SystemClock

LIBRARIES = ("apsw", "grpc", "aetcd", "boto3", "botocore")

IMPORTED = """
import asyncio, json, sys
from runtime.backend.open import open_backend
from runtime.backend.options import MemoryOptions, SqliteOptions
from runtime.core.clock import SystemClock

async def main():
    options = SqliteOptions(sys.argv[1]) if len(sys.argv) > 1 else MemoryOptions()
    await (await open_backend(options, clock=SystemClock())).close()

asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""


async def test_sqlite_options_open_sqlite(tmp_path: Path) -> None:
    """And create the file."""
    backend = await open_backend(SqliteOptions(str(tmp_path / "teleport.db")), clock=SystemClock())
    assert isinstance(backend, SqliteBackend)
    assert (tmp_path / "teleport.db").is_file()
    await backend.close()


async def test_memory_options_open_a_memory_of_its_own() -> None:
    """Two are apart."""
    one = await open_backend(MemoryOptions(), clock=SystemClock())
    other = await open_backend(MemoryOptions(), clock=SystemClock())
    assert isinstance(one, MemoryBackend)
    await one.put("resources/a", b"")
    assert (await other.range("resources/")).items == ()
    await one.close()
    await other.close()


@pytest.mark.parametrize(("uses_a_file", "expected"), [(False, set()), (True, {"apsw"})])
def test_only_the_library_that_is_asked_for_is_imported(tmp_path: Path, uses_a_file: bool, expected: set[str]) -> None:
    """boto3 and grpc take their time and memory from whoever needs them only."""
    arguments = [str(tmp_path / "teleport.db")] if uses_a_file else []
    output = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[3],
        timeout=60,
    ).stdout
    assert set(json.loads(output)) & set(LIBRARIES) == expected


def test_options_do_not_show_the_secret_key() -> None:
    """Neither in a log nor in a traceback."""
    options = DynamoDBOptions(region="eu-west-1", table_name="t", access_key="id", secret_key="s3cr3t")
    assert "s3cr3t" not in repr(options)
