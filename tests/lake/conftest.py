"""Every test of the lake runs on local disk and on a real S3 server, each on a lake of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio
from minio.deleteobjects import DeleteObject

from evergreen.lake.lake import Lake
from real_parts import S3Server

BUCKET = "evergreen-lake-tests"
PATIENT = {"AWS_TIMEOUT_SECONDS": "120", "AWS_CONNECT_TIMEOUT_SECONDS": "120"}


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake, once on local disk and once in a bucket."""
    if request.param == "file":
        return Lake((tmp_path / "lake").as_uri())
    server: S3Server = request.getfixturevalue("s3")
    request.getfixturevalue("bucket")
    return _in_bucket(server)


@pytest.fixture
def s3_lake(s3: S3Server, bucket: Minio) -> Lake:
    """An empty lake in a bucket."""
    return _in_bucket(s3)


def _in_bucket(server: S3Server) -> Lake:
    """A lake of its own, with patience: the server shares its processors with everything else under test."""
    return Lake(f"s3://{BUCKET}/{uuid.uuid4().hex}", {**server.options, **PATIENT})


@pytest.fixture(scope="session")
def bucket(s3: S3Server) -> Iterator[Minio]:
    """A client of the server, while the tests' bucket exists; the bucket is emptied in the end."""
    client = s3_client(s3)
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    yield client
    found = client.list_objects(BUCKET, recursive=True)
    errors = client.remove_objects(BUCKET, (DeleteObject(entry.object_name) for entry in found))
    assert not list(errors)


def s3_client(server: S3Server) -> Minio:
    """A plain client, for what the lake itself never does."""
    keys = server.options["AWS_ACCESS_KEY_ID"], server.options["AWS_SECRET_ACCESS_KEY"]
    return Minio(server.endpoint.removeprefix("http://"), *keys, secure=False)
