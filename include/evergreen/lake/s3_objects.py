"""Plain objects in a bucket of any S3 server: the same promises as on a local disk."""

from __future__ import annotations

import hashlib
import io
import logging
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    Provider,
    StaticProvider,
)
from minio.error import MinioException, S3Error
from minio.sse import Sse, SseKMS, SseS3
from urllib3.exceptions import HTTPError

from evergreen.artifacts import ObjectRef
from evergreen.errors import ConfigurationError, NotFound
from evergreen.lake.objects import CHUNK_BYTES, file_digest, require_digest, unavailable
from evergreen.lake.s3_errors import s3_error
from evergreen.lake.s3_options import BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, SILENT_ATTEMPTS, S3Options
from evergreen.lake.s3_role import role_provider

logger = logging.getLogger(__name__)

PART_BYTES = 8 << 20
MOST_PARTS = 10_000  # of one multipart upload, says the S3 API
PARALLEL_FETCHES = 4
SERVER_TROUBLES = (500, 502, 503, 504)
ABSENT = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")


class S3Objects:
    """Objects below `prefix` of `bucket`. A put is one request, or one that completes a multipart upload."""

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.options = options

    def put(self, path: str, data: bytes) -> ObjectRef:
        with self._errors(f"Writing {path}"):
            self._upload(path, io.BytesIO(data), len(data))
        return ObjectRef(path=path, digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    def put_file(self, path: str, local: Path) -> ObjectRef:
        digest, size_bytes = file_digest(local), local.stat().st_size
        with self._errors(f"Writing {path}"), local.open("rb") as stream:
            self._upload(path, stream, size_bytes)
        return ObjectRef(path=path, digest=digest, size_bytes=size_bytes)

    def get(self, path: str) -> bytes:
        return b"".join(self._chunks(path))

    def fetch(self, path: str, local: Path) -> None:
        self._fetch(path, local)

    def exists(self, path: str) -> bool:
        with self._errors(f"Looking for {path}"):
            try:
                self._client.stat_object(self.bucket, self._key(path))
            except S3Error as error:
                if error.code not in ABSENT:
                    raise
                # A missing bucket answers a HEAD just as a missing object does; it must not pass for an empty lake.
                self._require_bucket(path)
                return False
        return True

    def delete(self, path: str) -> None:
        with self._errors(f"Removing {path}"):
            self._client.remove_object(self.bucket, self._key(path))

    def list(self, prefix: str) -> list[str]:
        folder = self._key(prefix.strip("/"))
        with self._errors(f"Listing {prefix or 'the lake'}"):
            found = self._client.list_objects(self.bucket, prefix=f"{folder}/" if folder else None, recursive=True)
            start = len(self.prefix) + 1 if self.prefix else 0
            return sorted(entry.object_name[start:] for entry in found)

    def digest(self, path: str) -> str:
        taken = hashlib.sha256()
        for chunk in self._chunks(path):
            taken.update(chunk)
        return taken.hexdigest()

    @contextmanager
    def verified_files(self, folder: str, digests: Mapping[str, str]) -> Iterator[Path]:
        with TemporaryDirectory(prefix="evergreen-", ignore_cleanup_errors=True) as name:
            fetched = Path(name)
            with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
                jobs = [pool.submit(self._fetch_verified, folder, file, fetched, digests[file]) for file in digests]
                for job in jobs:
                    job.result()
            yield fetched

    def _fetch_verified(self, folder: str, name: str, fetched: Path, wanted: str) -> None:
        local = fetched / name
        local.parent.mkdir(parents=True, exist_ok=True)
        found = self._fetch(f"{folder}/{name}", local)
        require_digest(f"{folder}/{name}", found=found, wanted=wanted)

    def _fetch(self, path: str, local: Path) -> str:
        """Digest of the object, after its bytes were written to `local`."""
        taken = hashlib.sha256()
        try:
            with local.open("wb") as copy:
                for chunk in self._chunks(path):
                    taken.update(chunk)
                    copy.write(chunk)
        except OSError as error:
            raise unavailable(f"Copying {path} to {local}", error) from error
        return taken.hexdigest()

    def _chunks(self, path: str) -> Iterator[bytes]:
        """The object's bytes; a connection that breaks in the middle is taken up again where it broke.

        A break without a single byte since the last one is final, so that silence costs two time-outs at most.
        """
        received = 0
        same: dict[str, str | list[str] | tuple[str]] = {}  # minio's own type of headers
        with self._errors(f"Reading {path}", path):
            while True:
                start = received
                response = self._client.get_object(self.bucket, self._key(path), offset=start, request_headers=same)
                try:
                    for chunk in response.stream(CHUNK_BYTES):
                        received += len(chunk)
                        yield chunk
                    return
                except HTTPError as error:
                    if received == start:
                        raise
                    logger.warning("%s broke after %d bytes (%s); reading on", path, received, type(error).__name__)
                finally:
                    response.close()
                    response.release_conn()
                same = {"If-Match": response.headers["ETag"]}

    def _upload(self, path: str, stream: BinaryIO, size_bytes: int) -> None:
        self._client.put_object(
            self.bucket,
            self._key(path),
            stream,
            size_bytes,
            part_size=max(PART_BYTES, -(-size_bytes // MOST_PARTS)),
            sse=self._encryption,
        )

    def _require_bucket(self, path: str) -> None:
        if not self._client.bucket_exists(self.bucket):
            raise s3_error(f"Looking for {path}", RuntimeError("NoSuchBucket"), server=self._server)

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}".strip("/")

    @property
    def _server(self) -> str:
        return f"bucket {self.bucket} at {self.options.endpoint or f'AWS {self.options.region}'}"

    @property
    def _encryption(self) -> Sse | None:
        if self.options.encryption is None:
            return None
        return SseS3() if self.options.encryption == "AES256" else _Kms(self.options)

    @cached_property
    def _client(self) -> Minio:
        endpoint = urlsplit(self.options.endpoint or "https://s3.amazonaws.com")
        pool = _pool(self.options)
        return Minio(
            endpoint=endpoint.netloc,
            secure=endpoint.scheme == "https",
            region=self.options.region,
            http_client=pool,
            credentials=_credentials(self.options, pool),
        )

    @contextmanager
    def _errors(self, thing: str, path: str | None = None) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if path is not None and error.code in ABSENT:
                raise self._absent(path) from error
            raise s3_error(thing, error, server=self._server) from error
        except (MinioException, HTTPError, ssl.SSLError) as error:
            raise s3_error(thing, error, server=self._server) from error
        except ValueError as error:  # minio's word for a name or a credential that cannot be
            raise _refused(thing, error, self._server) from error

    def _absent(self, path: str) -> NotFound:
        return NotFound(
            f"Object {path}",
            found="nothing",
            wanted="an object of the lake",
            remedy=f"Run the task that writes it, or check the lake at s3://{self.bucket}/{self.prefix}.",
        )


class _Kms(SseKMS):
    """Encryption with a key of the KMS; without a key's name, the bucket's own."""

    def __init__(self, options: S3Options) -> None:
        super().__init__(options.kms_key or "", {})
        self._options = options

    def headers(self) -> dict[str, str]:
        headers = {"X-Amz-Server-Side-Encryption": self._options.encryption or "aws:kms"}
        if self._options.kms_key:
            headers["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] = self._options.kms_key
        if self._options.bucket_key:
            headers["X-Amz-Server-Side-Encryption-Bucket-Key-Enabled"] = "true"
        return headers


def _pool(options: S3Options) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=PARALLEL_FETCHES * 2,
        timeout=urllib3.Timeout(connect=options.connect_timeout_seconds, read=options.timeout_seconds),
        ssl_context=ssl.create_default_context(cafile=options.ca_bundle),
        retries=urllib3.Retry(
            total=options.max_attempts - 1,
            read=min(options.max_attempts, SILENT_ATTEMPTS) - 1,
            backoff_factor=BACKOFF_SECONDS,
            backoff_max=LONGEST_BACKOFF_SECONDS,
            status_forcelist=SERVER_TROUBLES,
            allowed_methods=None,  # a put says the whole object, so doing it twice does it once
            raise_on_status=False,
            respect_retry_after_header=False,  # an overloaded server may ask for an hour
        ),
    )


def _credentials(options: S3Options, pool: urllib3.PoolManager) -> Provider:
    if options.access_key:
        return StaticProvider(options.access_key, options.secret_key or "", options.session_token)
    return ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), role_provider(pool)])


def _refused(thing: str, error: ValueError, server: str) -> ConfigurationError:
    return ConfigurationError(
        thing,
        found=f"{type(error).__name__} of the S3 client ({server})",
        wanted="a bucket, a path and keys that it takes",
        remedy="Check EVERGREEN_LAKE_URL and the AWS_* variables; see docs/lake.md.",
        details=str(error),
    )
