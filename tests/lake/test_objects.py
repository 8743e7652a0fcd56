"""Plain objects: whole or not at all, checked against their digest, and clear about what is wrong."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from evergreen.errors import ConfigurationError, IntegrityError, LakeUnavailable, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.objects import get_verified


@contextmanager
def _full_disk(*, after_bytes: int) -> Iterator[None]:
    """No file can grow beyond `after_bytes` while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_object_is_given_back_with_its_digest_and_size(lake: Lake) -> None:
    ref = lake.objects.put("a/b.bin", b"hello")
    assert (ref.path, ref.size_bytes) == ("a/b.bin", 5)
    assert ref.digest == hashlib.sha256(b"hello").hexdigest() == lake.objects.digest("a/b.bin")
    assert lake.objects.get("a/b.bin") == get_verified(lake.objects, ref) == b"hello"


def test_put_replaces_and_leaves_nothing_else_behind(lake: Lake) -> None:
    lake.objects.put("a", b"one")
    lake.objects.put("a", b"two")
    assert lake.objects.get("a") == b"two"
    assert lake.objects.list("") == ["a"]


def test_file_is_uploaded_and_fetched(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"x" * 3_000_000)
    ref = lake.objects.put_file("models/x", tmp_path / "up")
    lake.objects.fetch("models/x", tmp_path / "down")
    assert hashlib.sha256((tmp_path / "down").read_bytes()).hexdigest() == ref.digest
    assert ref.size_bytes == 3_000_000


def test_altered_bytes_are_refused(lake: Lake) -> None:
    ref = lake.objects.put("a", b"hello")
    lake.objects.put("a", b"hullo")
    with pytest.raises(IntegrityError, match=r"a: found digest .* wanted digest"):
        get_verified(lake.objects, ref)


def test_list_is_sorted_and_holds_the_folder_alone(lake: Lake) -> None:
    for path in ("a/2", "a/1/x", "ab/3", "b"):
        lake.objects.put(path, b"")
    assert lake.objects.list("a") == ["a/1/x", "a/2"]
    assert lake.objects.list("nothing") == []


def test_exists_says_whether_there_is_an_object(lake: Lake) -> None:
    lake.objects.put("a/b", b"")
    assert lake.objects.exists("a/b")
    assert not lake.objects.exists("a")
    assert not lake.objects.exists("c")


@pytest.mark.parametrize(
    "read",
    [
        lambda lake, here: lake.objects.get("gone"),
        lambda lake, here: lake.objects.digest("gone"),
        lambda lake, here: lake.objects.fetch("gone", here / "x"),
        lambda lake, here: lake.objects.get("folder"),
    ],
    ids=["get", "digest", "fetch", "folder"],
)
def test_what_is_not_there_is_not_found(read: Callable[[Lake, Path], object], lake: Lake, tmp_path: Path) -> None:
    lake.objects.put("folder/object", b"")
    with pytest.raises(NotFound, match=r"Object \w+: found nothing"):
        read(lake, tmp_path)


def test_fetch_into_a_folder_that_is_not_there_does_not_blame_the_lake(lake: Lake, tmp_path: Path) -> None:
    lake.objects.put("a", b"hello")
    with pytest.raises(LakeUnavailable):
        lake.objects.fetch("a", tmp_path / "nowhere" / "x")


@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_full_disk_loses_nothing_and_the_next_put_works(lake: Lake) -> None:
    lake.objects.put("a", b"old")
    with _full_disk(after_bytes=1000), pytest.raises(LakeUnavailable, match=r"Writing a: found File too large"):
        lake.objects.put("a", b"new" * 1000)
    assert lake.objects.get("a") == b"old"
    assert lake.objects.list("") == ["a"]
    lake.objects.put("a", b"new" * 1000)
    assert lake.objects.get("a") == b"new" * 1000


def test_lake_below_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeUnavailable, match="Not a directory"):
        Lake((tmp_path / "file" / "lake").as_uri()).objects.put("a", b"")


def test_readers_see_one_whole_version_while_writers_replace_it(lake: Lake) -> None:
    versions = {bytes([n]) * 200_000 for n in range(8)}
    lake.objects.put("a", bytes(200_000))
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(lake.objects.put, "a", data) for data in sorted(versions) * 4]
        seen = [lake.objects.get("a") for _ in range(40)]
        assert all(write.result().size_bytes == 200_000 for write in writes)
    assert set(seen) <= versions
    assert lake.objects.list("") == ["a"]


@pytest.mark.parametrize("url", ["lake", "/lake", "file:lake", "file://lake/x", "s4://bucket", ""])
def test_url_that_is_no_lake_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="EVERGREEN_LAKE_URL"):
        Lake(url).objects.put("a", b"")


def test_credentials_do_not_show_in_the_lakes_name() -> None:
    assert "s3cret" not in repr(Lake("file:///lake", {"AWS_SECRET_ACCESS_KEY": "s3cret"}))
