"""A real S3 server of our own build, the Versity gateway on a folder: with signatures and multipart uploads.

main.go, go.mod and go.sum beside this file pin it. It is built once per machine (a minute or two; `python -m
tests.servers.s3` does it ahead of the tests) with the Go that `tests.servers.golang` finds.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.dynamodb_local import QUIET_AWS
from tests.servers.golang import built
from tests.servers.processes import Process, free_port, listens

START_SECONDS = 60.0
ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "secret-key-of-the-tests", "eu-west-1"
CREDENTIALS = {**QUIET_AWS, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
"""The environment of who may use it."""


def binary() -> Path:
    """Return the executable, building it when this machine has none yet. Raises RuntimeError."""
    return built(Path(__file__).parent)


class S3:
    """The server with one bucket, on loopback; as a context manager it is ended at the end."""

    def __init__(self, folder: Path, bucket: str = "recordings") -> None:
        self.bucket = bucket
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.objects = folder / "buckets" / bucket
        """Where the objects are, as files."""
        self._folder = folder
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError("the S3 server was not started")
        return self._process

    def uri(self, prefix: str = "teleport") -> str:
        """Return what audit.recordings_uri is."""
        return f"s3://{self.bucket}/{prefix}?region={REGION}&endpoint={self.endpoint}"

    def names(self) -> set[str]:
        """Return the keys of all objects; half of an upload is none."""
        files = (path.relative_to(self.objects) for path in self.objects.rglob("*") if path.is_file())
        return {str(path) for path in files if not path.parts[0].startswith(".")}

    def start(self) -> None:
        """Start it on what it had before, and block until it listens."""
        for name in ("metadata", "accounts"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)
        words: list[str | Path] = [binary(), f"127.0.0.1:{self.port}", self._folder, ACCESS_KEY, SECRET_KEY, REGION]
        self._process = Process(words, log=self._folder / "s3.log")
        self._process.wait_until(lambda: listens(self.port), timeout=START_SECONDS)

    def kill(self) -> None:
        """End it with SIGKILL. Safe to call twice."""
        self.process.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
