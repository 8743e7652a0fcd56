"""Redis and Prometheus take the commands that docker/compose.yaml gives them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tenacity import retry, stop_after_delay, wait_fixed

from docker.compose_file import FOLDER, compose, example_variables
from loopback import free_port

FILLED = {name: value or "c0ffee" for name, value in example_variables().items()}
SERVICES: dict[str, Any] = compose(FILLED)["services"]
patiently = retry(stop=stop_after_delay(120), wait=wait_fixed(0.1), reraise=True)


def test_redis_is_healthy_by_its_own_check_and_lets_nobody_else_in(tmp_path: Path) -> None:
    service, port = SERVICES["redis"], str(free_port())
    command = [*service["command"], "--port", port, "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    check = [*service["healthcheck"]["test"][1:]]
    check[1:1] = ["-p", port]
    with _running(command, tmp_path):
        assert _said(check, service["environment"]) == "PONG"
        assert "NOAUTH" in _said(check, {})


def test_prometheus_gets_ready_and_asks_serving_for_its_metrics(tmp_path: Path) -> None:
    service, port = SERVICES["prometheus"], free_port()
    settings = str(FOLDER / "compose" / "prometheus.yaml")
    given = " ".join(service["command"]).replace("/etc/prometheus/prometheus.yaml", settings)
    given = given.replace("path=/prometheus", f"path={tmp_path}")
    url = f"http://127.0.0.1:{port}"
    with _running(["prometheus", *given.split(), f"--web.listen-address=127.0.0.1:{port}"], tmp_path):
        assert _targets(url) == ["serving:8000"]


@patiently
def _targets(url: str) -> list[str]:
    """What Prometheus asks; it knows a few seconds after it is ready."""
    found = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
    assert found
    return [target["discoveredLabels"]["__address__"] for target in found]


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[None]:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install redis-server prometheus)")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, *command[1:]], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        server.terminate()
        server.wait(120)


@patiently
def _said(command: Sequence[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert "refused" not in done.stdout + done.stderr
    return (done.stdout + done.stderr).strip()
