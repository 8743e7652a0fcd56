"""Keys that a pod's role gives: the service that gives them may be away, and its token is nobody's business."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import urllib3

from evergreen.errors import ConfigurationError, EvergreenError, LakeUnavailable
from evergreen.lake import s3_role

TOKEN = "eyJ.the-pods-own.token"
Serve = Callable[[int], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a service of temporary keys that answers every request with one status; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _refusal(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvergreenError:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/evergreen")
    pool = urllib3.PoolManager(retries=urllib3.Retry(total=1, backoff_factor=0))
    provider = s3_role.role_provider(pool)
    provider._provider._custom_endpoint = url  # type: ignore[attr-defined]
    with pytest.raises(EvergreenError) as caught:
        provider.retrieve()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_overloaded_service_of_keys_may_be_asked_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = _refusal(serve(503), tmp_path, monkeypatch)
    assert isinstance(error, LakeUnavailable)
    assert error.found == "status 503 of the service that gives its keys"


def test_role_that_does_not_trust_the_pod_is_configuration(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(_refusal(serve(403), tmp_path, monkeypatch), ConfigurationError)


def test_token_is_in_no_log_when_the_service_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert isinstance(_refusal("http://127.0.0.1:9", tmp_path, monkeypatch), LakeUnavailable)
    assert "WebIdentityToken=***" in caplog.text
    assert TOKEN not in caplog.text


def test_machine_without_such_a_role_asks_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in s3_role.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert type(s3_role.role_provider(urllib3.PoolManager())).__name__ == "IamAwsProvider"
