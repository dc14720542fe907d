"""Objects in S3, or in what speaks as S3 does: boto3 in threads of its own, every call with its time limits."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import SEEK_SET, BufferedReader, BytesIO, RawIOBase
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from s3transfer.exceptions import CancelledError, TransferNotDoneError

from runtime.backend.objects import S3Options
from runtime.core.errors import AccessDenied, InvalidSettings, NotFound, TeleportError, Unavailable

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from _typeshed import WriteableBuffer as Buffer
    from mypy_boto3_s3 import S3Client
    from s3transfer.futures import TransferFuture

logger = logging.getLogger(__name__)

THREADS = 8
"""Requests at a time."""
PART_BYTES = 8 * 1024 * 1024
"""Of an upload; a few are in memory. Longer files have longer parts, for there are 10,000 at most."""
COMPARED_BYTES = 4 * 1024 * 1024
"""Read back at a time."""
ATTEMPTS = 2
CLOSE_SECONDS = 5.0

_BAD_CREDENTIALS = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_HINT = "Look at audit.recordings_uri in teleport.yaml, and at the network."

T = TypeVar("T")


class S3Store:
    """One bucket, or a part of one (`runtime.backend.objects.ObjectStore`)."""

    def __init__(self, options: S3Options, client: S3Client, putting: S3Client) -> None:
        self.name = f"s3://{options.bucket}/{options.prefix}"
        self._bucket = options.bucket
        self._prefix = options.prefix
        self._client = client
        self._putting = putting
        self._threads = ThreadPoolExecutor(THREADS, "s3")
        self._uploads: set[TransferFuture] = set()
        self._running: set[asyncio.Future[Any]] = set()  # of calls, whatever they give
        self._closed = False

    @classmethod
    async def open(cls, options: S3Options) -> S3Store:
        """Prepare the clients; nothing is sent yet. Raises InvalidSettings."""
        loader = ThreadPoolExecutor(1, "s3-open")  # reading the service's model takes a good part of a second
        try:
            loop = asyncio.get_running_loop()
            client = await loop.run_in_executor(loader, _client, options, options.timeout)
            putting = await loop.run_in_executor(loader, _client, options, options.put_timeout)
        finally:
            loader.shutdown(wait=False)
        return cls(options, client, putting)

    async def check(self) -> None:
        """Put a small object, read it and delete it: what credentials allow, nothing else tells."""
        key = f"probe-{uuid.uuid4()}"
        await self.put(key, lambda: BytesIO(b"teleport"))
        await self.delete(key)

    async def put(self, key: str, open_file: Callable[[], BinaryIO]) -> int:
        """Put a file, in parts if it is long, and compare what is read back."""
        await self._run("PutObject", lambda: self._upload(key, open_file))
        return await self._run("GetObject", lambda: self._compare(key, open_file))

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """Return bytes of an object."""
        return await self._run("GetObject", lambda: self._read(key, offset, size))

    async def delete(self, key: str) -> None:
        """Delete an object."""
        await self._run(
            "DeleteObject", lambda: self._client.delete_object(Bucket=self._bucket, Key=f"{self._prefix}{key}")
        )

    async def close(self) -> None:
        """Give up uploads: what they brought so far is not an object yet, and is deleted where that can be done."""
        self._closed = True
        for upload in list(self._uploads):
            upload.cancel()
        if self._running:  # a request that nobody answers ends later, by its own time limit
            await asyncio.wait(self._running, timeout=CLOSE_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._putting.close()

    async def _run(self, action: str, work: Callable[[], T]) -> T:
        self._check_open()
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await running
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                self._check_open()  # it was to wait for others, and is not begun any more
            raise
        except (ClientError, BotoCoreError, Boto3Error, CancelledError, TransferNotDoneError) as error:
            raise _translated(error, action, self.name) from error

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"{self.name} was closed")

    # --- in threads ----------------------------------------------------------------------------------------------

    def _upload(self, key: str, open_file: Callable[[], BinaryIO]) -> None:
        config = TransferConfig(multipart_threshold=2 * PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=2)
        config.max_in_memory_upload_chunks = 2  # of 10: they are copies of parts
        with create_transfer_manager(self._putting, config) as manager, open_file() as file:
            reading = BufferedReader(_Reading(file, self._check_open))
            upload = manager.upload(reading, self._bucket, f"{self._prefix}{key}")
            self._uploads.add(upload)
            try:
                upload.result()
            finally:
                self._uploads.discard(upload)

    def _compare(self, key: str, open_file: Callable[[], BinaryIO]) -> int:
        """Read an object back: neither its checksum nor its ETag means the same in everything that speaks S3."""
        size = 0
        with open_file() as file:
            while data := file.read(COMPARED_BYTES):
                self._check_open()
                if self._read(key, size, len(data)) != data:
                    raise Unavailable(
                        f"{self.name}{key} is not what was put there: it differs after byte {size}",
                        hint="It is put there again.",
                    )
                size += len(data)
        if self._read(key, size, 1):
            raise Unavailable(f"{self.name}{key} is longer than what was put there", hint="It is put there again.")
        return size

    def _read(self, key: str, offset: int, size: int) -> bytes:
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=f"{self._prefix}{key}", Range=f"bytes={offset}-{offset + size - 1}"
            )
        except ClientError as error:
            if _code(error) in {"InvalidRange", "416"}:
                return b""
            if _code(error) in {"NoSuchKey", "404"}:
                raise NotFound(f"there is no {key} in {self.name}") from error
            raise
        with closing(answer["Body"]) as body:
            return body.read(size)


class _Reading(RawIOBase):
    """A file that is put, read no further once the store was closed: else a long one would be read to its end."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that one can go about in it."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Read on. Raises Unavailable once the store was closed."""
        self._check()
        room = memoryview(buffer)
        data = self._file.read(len(room))
        room[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()


def _client(options: S3Options, timeout: float) -> S3Client:
    # botocore writes whole requests to its debug log, and they hold what sessions showed.
    logging.getLogger("botocore").setLevel(logging.INFO)
    logging.getLogger("s3transfer").setLevel(logging.INFO)
    config = Config(
        connect_timeout=options.timeout,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=THREADS + 2,
        # What was put is read back. Newer checksums are not understood by everything that speaks S3.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if options.endpoint else "auto"},
    )
    try:
        return boto3.session.Session(region_name=options.region).client(
            "s3", endpoint_url=options.endpoint, config=config
        )
    except (BotoCoreError, ValueError) as error:
        raise InvalidSettings(f"audit.recordings_uri cannot be used: {error}", hint=_HINT) from error


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _translated(error: Exception, action: str, name: str) -> TeleportError:
    """Return our error for one of boto3's. No message holds a credential."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, ClientError):
        error = error.__context__
    if isinstance(error, ClientError):
        return _refusal(error, action, name)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return InvalidSettings(
            f"there are no AWS credentials for {name}",
            hint="Give auth some as for AWS's own tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in its "
            "environment, a profile in ~/.aws, or the role of the machine.",
        )
    if isinstance(error, (BotoCoreError, HTTPClientError)):
        return Unavailable(f"{name} cannot be reached: {type(error).__name__}", hint=_HINT)
    return Unavailable(f"{action} in {name} was broken off: {type(error).__name__}", hint="It is tried again.")


def _refusal(error: ClientError, action: str, name: str) -> TeleportError:
    code = _code(error)
    if code == "NoSuchBucket":
        return InvalidSettings(f"there is no bucket for {name}", hint="Make it, or name another: audit.recordings_uri.")
    if code in _BAD_CREDENTIALS:
        return AccessDenied(
            f"{name} does not accept the credentials: {code}",
            hint="Check the access key and its secret, the region in audit.recordings_uri, and this machine's clock.",
        )
    if code in {"AccessDenied", "AllAccessDisabled", "403", "Forbidden"}:
        return AccessDenied(
            f"the credentials may not {action} in {name}",
            hint="Grant them s3:PutObject, s3:GetObject, s3:DeleteObject and s3:AbortMultipartUpload on its objects.",
        )
    if code in {"PermanentRedirect", "IllegalLocationConstraintException", "301"}:
        return InvalidSettings(f"{name} is in another region", hint="Give it: audit.recordings_uri: s3://…?region=…")
    message = error.response.get("Error", {}).get("Message", "")
    return Unavailable(f"{action} failed in {name}: {code}: {message}", hint=_HINT)
