"""The real DynamoDB Local, as AWS publishes it: pinned by pom.xml, checked against SHA256SUMS, run on a free port.

It needs Java 17 and Maven (Debian: default-jre-headless, maven). `python -m tests.servers.dynamodb_local` fetches it
ahead of the tests, once per machine. It cannot be told to listen on loopback only; it is asked on loopback only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
from botocore.config import Config

from tests.servers.cache import cached
from tests.servers.processes import Process, free_port, listens

SOURCE = Path(__file__).parent
START_SECONDS = 60.0

QUIET_AWS = {
    # Nothing a test starts may look for credentials, settings or a region of the machine it runs on.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def library() -> Path:
    """Return the folder of its jars, fetching them when this machine has none yet. Raises RuntimeError."""
    return cached("dynamodb-local", [SOURCE / "pom.xml", SOURCE / "SHA256SUMS"], _fetch)


def _fetch(folder: Path) -> None:
    fetch = subprocess.run(
        [
            "mvn",
            "--batch-mode",
            "--quiet",
            f"--file={SOURCE / 'pom.xml'}",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={folder}",
            "-DincludeScope=runtime",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetch.returncode != 0:
        raise RuntimeError(f"DynamoDB Local could not be fetched:\n{fetch.stdout}{fetch.stderr}")
    sums = [line.split() for line in (SOURCE / "SHA256SUMS").read_text().splitlines()]
    expected = {name: digest for digest, name in sums}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise RuntimeError(f"these files of DynamoDB Local are not those of SHA256SUMS: {', '.join(wrong)}")


class DynamoDBLocal:
    """One server with its data in a folder; as a context manager it is ended at the end."""

    def __init__(self, folder: Path) -> None:
        """Prepare a server; nothing is started."""
        self.folder = folder
        self._data = folder / "data"
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    def start(self) -> None:
        """Start it on its data and address, and block until it answers. Raises RuntimeError."""
        self._data.mkdir(parents=True, exist_ok=True)
        jars = library()
        self._process = Process(
            [
                "java",
                "-Xmx512m",
                *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),  # it lives for minutes, beside what it is tested with
                f"-Djava.library.path={jars}",
                f"--class-path={jars}/*",
                "com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
                *("-dbPath", str(self._data)),  # not -inMemory: items survive a restart
                *("-port", str(self.port)),
                "-disableTelemetry",
            ],
            log=self.folder / "dynamodb.log",
            cwd=self.folder,
        )
        self._process.wait_until(lambda: listens(self.port), timeout=START_SECONDS)
        self._warm_up()

    def _warm_up(self) -> None:
        """Use it once: on a busy machine a fresh Java takes longer for its first answers than a test allows."""
        client = boto3.client(
            "dynamodb",
            region_name="eu-west-1",
            endpoint_url=self.endpoint,
            aws_access_key_id="AKIDWARMUP",
            aws_secret_access_key="none",
            config=Config(connect_timeout=START_SECONDS, read_timeout=START_SECONDS),
        )
        with closing(client):
            client.create_table(
                TableName="warm-up",
                AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
            client.transact_write_items(
                TransactItems=[{"Put": {"TableName": "warm-up", "Item": {"key": {"S": "any"}}}}],
            )
            client.scan(TableName="warm-up")
            client.delete_table(TableName="warm-up")

    def restart(self) -> None:
        """Kill it as soon as its last write is on the disk, and start it again; blocks until it answers.

        It acknowledges a write a moment before SQLite has ended the transaction, which DynamoDB never does.
        """
        self.kill_when_written()
        self.start()

    def kill_when_written(self) -> None:
        """End it with SIGKILL as soon as its last write is on the disk. Safe to call twice."""
        if self._process is not None and self._process.running:
            self._process.wait_until(lambda: not any(self._data.glob("*-journal")), timeout=START_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL. Safe to call twice."""
        if self._process is not None:
            self._process.kill()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        if self._process is not None:
            self._process.freeze()

    def thaw(self) -> None:
        """Undo freeze."""
        if self._process is not None:
            self._process.thaw()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()  # there is nothing to save: the data goes with the test's folder
