"""The demo gets in where serving asks for a token, and ends in one sentence when Airflow is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from rich.console import Console

from evergreen.errors import DataError, SourceUnavailable, TemporaryError
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.settings import Settings
from evergreen.standalone import airflow_client
from evergreen.standalone.airflow_client import AirflowClient
from evergreen.standalone.demo import Demo
from evergreen.standalone.home import Home
from evergreen.standalone.traffic import send_day

TOKEN = "tok3n-long"
DAY = date(2026, 11, 1)


class _Door(BaseHTTPRequestHandler):
    """Lets in who has the token."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        allowed = self.headers["authorization"] == f"Bearer {TOKEN}"
        self.send_response(200 if allowed else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """A service that asks for TOKEN."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Door) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_traffic_carries_the_token(url: str, fraud: Pipeline) -> None:
    config = SampleConfig(rows_per_day=200)
    assert send_day(url, TOKEN, fraud, config, DAY) > 0
    with pytest.raises(SourceUnavailable, match="status 401"):
        send_day(url, None, fraud, config, DAY)


def test_absent_serving_is_told_in_one_sentence(fraud: Pipeline) -> None:
    with pytest.raises(SourceUnavailable, match=r"Serving at http://127\.0\.0\.1:9.*found no answer .*demo again"):
        send_day("http://127.0.0.1:9", TOKEN, fraud, SampleConfig(rows_per_day=200), DAY)


def test_absent_airflow_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_client, "POLL_SECONDS", 0.0)
    settings = Settings.from_environment({"EVERGREEN_HOME": str(tmp_path)})
    demo = Demo(settings, Home.at(tmp_path), Console(), rows_per_day=100)
    demo.airflow = AirflowClient("http://127.0.0.1:9", "admin", "password")  # nothing listens on discard
    with pytest.raises(TemporaryError, match=r"Airflow's DAGs: found an Airflow that does not answer .*make demo"):
        demo._until(lambda: False, "Airflow's DAGs", 0)
    with pytest.raises(TemporaryError, match=r"Airflow at http://127\.0\.0\.1:9: found no answer .*same command again"):
        demo._ingested([DAY])


@pytest.mark.parametrize(("state", "refused"), [("skipped", True), ("success", False)])
def test_model_that_the_gate_refuses_is_not_waited_for(tmp_path: Path, state: str, refused: bool) -> None:
    settings = Settings.from_environment({"EVERGREEN_HOME": str(tmp_path)})
    demo = Demo(settings, Home.at(tmp_path), Console(), rows_per_day=100)
    demo.airflow = AirflowClient("http://127.0.0.1:9", "admin", "password")
    tasks = {"task_instances": [{"task_id": "publish_model", "state": state}]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=tasks))
    vars(demo.airflow)["http"] = httpx.Client(base_url=demo.airflow.url, transport=transport)
    assert demo._refused("drift__fraud") is refused
    with pytest.raises(DataError, match=r"gate refused.*more --rows-per-day") if refused else nullcontext():
        demo._require_approval("demo__fraud")
