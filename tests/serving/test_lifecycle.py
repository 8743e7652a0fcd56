"""The service as a process of its own: started, swapped under traffic, stopped, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake

WAIT_SECONDS = 240.0


@dataclass
class Server:
    """`python -m evergreen.serving` with a home of its own."""

    home: Path
    lake: Lake
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def start(self) -> None:
        """Returns when it is ready."""
        self.process = self.launch()
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError(self.log)

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "EVERGREEN_HOME": str(self.home),
            "EVERGREEN_LAKE_URL": self.lake.url,
            "EVERGREEN_SERVING_PORT": str(self.port),
        }
        self.home.mkdir(exist_ok=True)
        with (self.home / "log").open("ab") as log:
            command = [sys.executable, "-m", "evergreen.serving", *arguments]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self, number: signal.Signals) -> int:
        """The exit code after the signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)


@pytest.fixture
def server(tmp_path: Path, lake: Lake) -> Iterator[Server]:
    """A server that has not been started yet."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    made = Server(tmp_path / "home", lake, port)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_models_swap_under_traffic_and_a_clean_stop_flushes(
    server: Server, publish: Callable[..., Model], transactions: Any, logged: Callable[[], pl.DataFrame]
) -> None:
    models = [publish(2.0), publish(1.0)]
    server.start()
    stop = threading.Event()
    answers: list[tuple[int, str]] = []

    def hammer() -> None:
        with httpx.Client(base_url=server.url, timeout=WAIT_SECONDS) as client:
            while not stop.is_set():
                row = transactions(prefix=f"h{len(answers)}-")[0]
                answer = client.post("/v1/fraud/predict", json=row)
                answers.append((answer.status_code, answer.json().get("version", answer.text)))

    thread = threading.Thread(target=hammer)
    thread.start()
    for turn in range(6):
        wanted = models[turn % 2].version
        publish(model=models[turn % 2])
        deadline = time.monotonic() + WAIT_SECONDS
        while httpx.get(f"{server.url}/v1/fraud", timeout=WAIT_SECONDS).json()["version"] != wanted:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
    stop.set()
    thread.join()

    assert {status for status, _ in answers} == {200}
    versions = [version for _, version in answers]
    assert set(versions) == {model.version for model in models}
    assert server.end(signal.SIGTERM) == 0, server.log
    assert logged().height == len(answers)
    assert logged().sort("known_at")["version"].to_list() == versions


def test_a_killed_server_loses_nothing_it_acknowledged(
    server: Server, publish: Callable[..., Model], transactions: Any, logged: Callable[[], pl.DataFrame]
) -> None:
    publish()
    server.start()
    acknowledged: list[str] = []
    with httpx.Client(base_url=server.url, timeout=WAIT_SECONDS) as client:
        for n in range(40):
            answer = client.post("/v1/fraud/predict", json={"rows": transactions(5, prefix=f"k{n}-")})
            acknowledged += [p["prediction_id"] for p in answer.json()["predictions"]]
    server.end(signal.SIGKILL)
    assert len(acknowledged) == 200
    server.start()
    assert server.end(signal.SIGTERM) == 0, server.log
    assert sorted(logged()["prediction_id"]) == sorted(acknowledged)


def test_an_oversized_body_is_answered_before_it_is_read(server: Server, publish: Callable[..., Model]) -> None:
    publish()
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(b"POST /v1/fraud/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n[")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    large = httpx.post(f"{server.url}/v1/fraud/predict", content=b" " * 3_000_000, timeout=WAIT_SECONDS)
    assert large.status_code == 413


def test_listening_to_other_machines_needs_a_token(server: Server) -> None:
    process = server.launch("--host", "0.0.0.0")  # noqa: S104
    assert process.wait(WAIT_SECONDS) == 64
    assert "EVERGREEN_SERVING_TOKEN" in server.log
    assert "Traceback" not in server.log


def test_a_taken_port_is_named(server: Server) -> None:
    with socket.create_server(("127.0.0.1", server.port)):
        assert server.launch().wait(WAIT_SECONDS) == 64
    assert f"Port {server.port} on 127.0.0.1: found Address already in use" in server.log


def test_the_service_loads_what_its_image_has_and_no_more() -> None:
    absent = ("pyarrow", "deltalake", "duckdb", "torch", "airflow")
    code = f"import sys, evergreen.serving.__main__; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
