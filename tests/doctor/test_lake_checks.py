"""A lake that works, and lakes that are full, elsewhere, silent or not ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from minio import Minio

from doctor.conftest import Make
from doctor.looking import by_name, states
from evergreen.doctor.examination import examine
from evergreen.doctor.lake_checks import examine_lake
from evergreen.doctor.parts import PARTS
from evergreen.doctor.secrecy import without_secrets
from real_parts import S3Server

BUCKET = "evergreen-doctor-tests"


def test_local_lake_works_and_nothing_is_left_in_it(settings_of: Make, tmp_path: Path) -> None:
    settings = settings_of(EVERGREEN_LAKE_URL=(tmp_path / "lake").as_uri())
    found = by_name(examine_lake(settings))
    assert found["write, read, delete"].state == "ok"
    assert found["commits"].state == "ok"
    assert found["clock"].state == "not applicable"
    assert [path for path in (tmp_path / "lake").rglob("*") if path.is_file()] == []


def test_lake_below_a_file_cannot_be_written(settings_of: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = by_name(examine_lake(settings_of(EVERGREEN_LAKE_URL=(tmp_path / "file" / "lake").as_uri())))
    assert found["write, read, delete"].state == "failed"
    assert found["write, read, delete"].remedy
    assert "commits" not in found


def test_url_of_another_kind_is_named(settings_of: Make) -> None:
    found = by_name(examine_lake(settings_of(EVERGREEN_LAKE_URL="ftp://somewhere/lake")))
    assert found["URL"].state == "failed"
    assert "EVERGREEN_LAKE_URL" in found["URL"].remedy


def _s3(port: int) -> dict[str, str]:
    return {
        "EVERGREEN_LAKE_URL": "s3://bucket/lake",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "access-key",
        "AWS_SECRET_ACCESS_KEY": "secret-key-of-mine",
    }


def test_closed_port_is_found_within_a_minute(settings_of: Make, closed_port: int) -> None:
    started = time.monotonic()
    found = by_name(examine_lake(settings_of(**_s3(closed_port))))
    assert time.monotonic() - started < 60
    assert {found["clock"].state, found["write, read, delete"].state} == {"failed"}
    assert "AWS_ENDPOINT_URL" in found["clock"].remedy


def test_silent_server_costs_less_than_a_minute(settings_of: Make, silent_port: int) -> None:
    started = time.monotonic()
    found = examine(settings_of(**_s3(silent_port)), [part for part in PARTS if part.name == "lake"])["lake"]
    assert time.monotonic() - started < 60
    assert found[-1].state == "failed"
    assert found[-1].remedy


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[dict[str, str]]:
    """Variables of a lake in a real bucket that is there for the test alone."""
    keys = s3.options["AWS_ACCESS_KEY_ID"], s3.options["AWS_SECRET_ACCESS_KEY"]
    client = Minio(s3.endpoint.removeprefix("http://"), *keys, secure=False)
    if not client.bucket_exists(BUCKET):
        client.make_bucket(BUCKET)
    yield {"EVERGREEN_LAKE_URL": f"s3://{BUCKET}/lake", **s3.options}
    left = [entry.object_name for entry in client.list_objects(BUCKET, recursive=True)]
    for name in left:
        client.remove_object(BUCKET, name)
    client.remove_bucket(BUCKET)
    assert left == [], "the doctor cleans up after itself"


@pytest.mark.s3
def test_bucket_of_a_real_server_works(settings_of: Make, bucket: dict[str, str]) -> None:
    found = states(examine_lake(settings_of(**bucket)))
    assert found == {"clock": "ok", "write, read, delete": "ok", "commits": "ok"}


@pytest.mark.s3
def test_missing_bucket_is_named(settings_of: Make, s3: S3Server) -> None:
    settings = settings_of(EVERGREEN_LAKE_URL="s3://evergreen-no-such-bucket/lake", **s3.options)
    found = by_name(examine_lake(settings))["write, read, delete"]
    assert found.state == "failed"
    assert "bucket" in (found.found + found.remedy).lower()


@pytest.mark.s3
def test_wrong_keys_are_refused_and_not_repeated(settings_of: Make, bucket: dict[str, str]) -> None:
    settings = settings_of(**{**bucket, "AWS_SECRET_ACCESS_KEY": "a-wrong-secret-key"})
    checks = without_secrets({"lake": list(examine_lake(settings))}, settings)["lake"]
    found = by_name(checks)["write, read, delete"]
    assert found.state == "failed"
    assert found.remedy
    assert "a-wrong-secret-key" not in str(checks)
