"""A bucket or server that says no, says nothing or says 503: one clear error, soon, whichever client asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from evergreen.errors import ConfigurationError, EvergreenError, LakeUnavailable
from evergreen.lake.lake import Lake

DAY = date(2026, 11, 1)
PATIENT = {"AWS_TIMEOUT_SECONDS": "120", "AWS_CONNECT_TIMEOUT_SECONDS": "120", "AWS_MAX_ATTEMPTS": "2"}
"""Two attempts at most, and no answer that is only late is taken for silence."""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_ALLOW_HTTP": "true"}
Use = Callable[[Lake, Path], object]
USES = {
    "put": lambda lake, here: lake.objects.put("a", b"x"),
    "put many parts": lambda lake, here: lake.objects.put("a", bytes(9 << 20)),
    "get": lambda lake, here: lake.objects.get("a"),
    "fetch": lambda lake, here: lake.objects.fetch("a", here / "a"),
    "exists": lambda lake, here: lake.objects.exists("a"),
    "delete": lambda lake, here: lake.objects.delete("a"),
    "list": lambda lake, here: lake.objects.list("a"),
    "digest": lambda lake, here: lake.objects.digest("a"),
    "open table": lambda lake, here: lake.table("raw", "fraud").exists(),
    "replace day": lambda lake, here: lake.table("raw", "fraud").replace_day(DAY, pa.table({"a": [1]})),
}
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


def _raised(use: Use, lake: Lake, here: Path) -> EvergreenError:
    with pytest.raises(EvergreenError) as raised:
        use(lake, here)
    assert "s3cret" not in f"{raised.value} {raised.value.details}"
    return raised.value


@pytest.fixture(scope="module")
def overloaded() -> Iterator[str]:
    """Endpoint of a server that answers 503 to everything and asks to be left alone for an hour."""

    class Overloaded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(503)
            self.send_header("Retry-After", "3600")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 the server looks for these names

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """Endpoint of a server that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def down() -> str:
    """Endpoint where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@every_use
@pytest.mark.parametrize(
    ("server", "seconds", "found"),
    [
        ("overloaded", "120", "a server that is overloaded (503)"),
        ("silent", "0.5", "no answer in time"),
        ("down", "120", "connection refused"),
    ],
    ids=["overloaded", "silent", "down"],
)
def test_server_in_trouble_is_a_lake_unavailable_soon(
    server: str, seconds: str, found: str, use: Use, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = {"AWS_ENDPOINT_URL": request.getfixturevalue(server), "AWS_TIMEOUT_SECONDS": seconds}
    lake = Lake("s3://lake/x", KEYS | PATIENT | where)
    start = time.monotonic()
    error = _raised(use, lake, tmp_path)
    assert isinstance(error, LakeUnavailable)
    assert error.retryable
    assert error.found.startswith(found)
    assert time.monotonic() - start < 600  # of the hour that one of them asks for


@every_use
@pytest.mark.s3
@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "s3cret"}, "AWS_SECRET_ACCESS_KEY"),
    ],
    ids=["access key", "secret key"],
)
def test_wrong_keys_are_a_configuration_error(
    changed: dict[str, str], remedy: str, use: Use, s3_lake: Lake, tmp_path: Path
) -> None:
    error = _raised(use, Lake(s3_lake.url, {**s3_lake.options, **changed}), tmp_path)
    assert isinstance(error, ConfigurationError)
    assert not error.retryable
    if use is not USES["exists"]:  # the answer to a HEAD has no body that could say which
        assert remedy in error.remedy


@every_use
@pytest.mark.s3
def test_missing_bucket_is_a_configuration_error_and_never_an_empty_lake(
    use: Use, s3_lake: Lake, tmp_path: Path
) -> None:
    error = _raised(use, Lake("s3://no-such-bucket-here/x", s3_lake.options), tmp_path)
    assert isinstance(error, ConfigurationError)
    assert error.found.startswith("no such bucket (bucket no-such-bucket-here at http://")
    assert "Create the bucket" in error.remedy


@every_use
@pytest.mark.s3
def test_plain_http_needs_to_be_allowed(use: Use, s3_lake: Lake, tmp_path: Path) -> None:
    options = {name: value for name, value in s3_lake.options.items() if name != "AWS_ALLOW_HTTP"}
    error = _raised(use, Lake(s3_lake.url, options), tmp_path)
    assert isinstance(error, ConfigurationError)
    assert "AWS_ALLOW_HTTP=true" in error.remedy


@pytest.mark.s3
def test_server_without_tls_is_told(s3_lake: Lake, tmp_path: Path) -> None:
    endpoint = s3_lake.options["AWS_ENDPOINT_URL"].replace("http://", "https://")
    lake = Lake(s3_lake.url, {**s3_lake.options, **PATIENT, "AWS_ENDPOINT_URL": endpoint})
    for use in (USES["put"], USES["open table"]):
        assert "does not speak TLS" in str(_raised(use, lake, tmp_path))


BODY = bytes(range(256)) * 20_000


@pytest.fixture
def breaking() -> Iterator[tuple[str, list[str]]]:
    """Endpoint of a server that breaks every answer off after two megabytes, and the ranges it was asked for."""
    asked: list[str] = []

    class Breaking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.headers.get('Range')} {self.headers.get('If-Match')}")
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            rest = BODY[start:] if not self.path.endswith("/hopeless") or start == 0 else b""
            self.send_response(206 if start else 200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Length", str(len(BODY) - start))
            self.end_headers()
            self.wfile.write(rest[: 2 << 20])

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_answer_that_breaks_off_is_taken_up_where_it_broke(breaking: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = breaking
    lake = Lake("s3://lake", KEYS | PATIENT | {"AWS_ENDPOINT_URL": endpoint})
    lake.objects.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY
    assert asked == ["None None", f'bytes={2 << 20}- "v1"', f'bytes={4 << 20}- "v1"']


def test_answer_that_breaks_off_without_another_byte_is_given_up(breaking: tuple[str, list[str]]) -> None:
    endpoint, asked = breaking
    with pytest.raises(LakeUnavailable, match="a connection cut in the middle"):
        Lake("s3://lake", KEYS | PATIENT | {"AWS_ENDPOINT_URL": endpoint}).objects.get("hopeless")
    assert len(asked) == 2
