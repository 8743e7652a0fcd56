"""Asking the service, by made-up answers and by a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from evergreen.artifacts import Deployment, Model
from evergreen.deployment.rollout import HttpServing, roll_back, roll_out
from evergreen.errors import DataError, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.lake.objects import LocalObjects
from evergreen.ledger.ledger import Ledger
from evergreen.training.model_files import store_model

WAIT_SECONDS = 240.0
READY = {"version": "new", "published": "new", "ready": True, "refusal": None, "errors": []}
PROBED = {"version": "new", "predictions": [{"score": 0.25}, {"score": 0.5}]}
DEPLOYMENT = Deployment(
    pipeline="fraud",
    sequence=1,
    at=datetime(2026, 11, 2, tzinfo=UTC),
    from_version=None,
    to_version="new",
    model_uri="models/fraud/new",
    model_digest="0" * 64,
    actor="tester",
    reason="a test",
)


def confirm(states: list[dict[str, Any]], probed: dict[str, Any] | None = None, *, timeout_seconds: float = 60) -> int:
    """Times the service was asked for its state, when it says `states` one after the other."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/fraud/probe":
            return httpx.Response(200, json=PROBED | (probed or {}))
        asked.append(request.url.path)
        return httpx.Response(200, json=READY | states[min(len(asked), len(states)) - 1])

    HttpServing("http://serving", httpx.MockTransport(answer)).confirm(DEPLOYMENT, timeout_seconds)
    return len(asked)


def test_confirm_waits_for_the_version() -> None:
    assert confirm([{"version": "old", "published": "old"}, {"version": "old", "ready": False}, {}]) == 3


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "[]", "{}", '{"version": "new"}'])
def test_another_service_at_the_url_is_named_as_such(body: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    with pytest.raises(TemporaryError, match="found an answer that is not Evergreen's"):
        HttpServing("http://elsewhere", transport).confirm(DEPLOYMENT, 0)


def test_a_version_that_does_not_come_is_temporary_and_says_what_serves() -> None:
    with pytest.raises(TemporaryError, match=r"found version old; lake is down, wanted answers of fraud new"):
        confirm([{"version": "old", "errors": ["lake is down"]}], timeout_seconds=0.2)


def test_a_refused_model_is_not_waited_for() -> None:
    with pytest.raises(DataError, match="digest differs"):
        confirm([{"version": "old", "ready": False, "refusal": "digest differs"}], timeout_seconds=60)


def test_a_refusal_of_an_earlier_model_is_waited_out() -> None:
    assert confirm([{"version": "old", "published": "older", "refusal": "digest differs"}, {}]) == 2


@pytest.mark.parametrize("scores", [[], [0.5, 1.5], [-0.1]])
def test_scores_that_are_no_probabilities_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError, match="for example rows"):
        confirm([{}], {"predictions": [{"score": score} for score in scores]})


def test_a_service_that_is_only_just_back_has_not_refused_the_model() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/fraud/probe":
            return httpx.Response(503, text="no model yet")
        return httpx.Response(200, json=READY)

    with pytest.raises(TemporaryError, match="status 503 to example rows: no model yet"):
        HttpServing("http://serving", httpx.MockTransport(answer)).confirm(DEPLOYMENT, 0)


def test_another_deployment_in_between_is_temporary() -> None:
    with pytest.raises(TemporaryError, match="another deployment came between"):
        confirm([{}], {"version": "newer"})


def test_a_service_that_is_not_there_is_temporary() -> None:
    with pytest.raises(TemporaryError, match=r"no answer \(.*refused"):
        HttpServing("http://127.0.0.1:1").confirm(DEPLOYMENT, 0.2)


@pytest.fixture
def service(lake: Lake, tmp_path: Path) -> Iterator[HttpServing]:
    """A running `python -m evergreen.serving` that follows the lake."""
    log = tmp_path / "serving.log"
    environment = {**os.environ, "EVERGREEN_HOME": str(tmp_path / "home"), "EVERGREEN_LAKE_URL": lake.url}
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "evergreen.serving", "--port", "0"]
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while "on http://" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield HttpServing("http://" + log.read_text().split("on http://")[1].split()[0])
    finally:
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0, log.read_text()


def unservable(lake: Lake, ledger: Ledger, model: Model) -> Model:
    """A registered model like `model` that wants a feature nobody computes."""
    objects = lake.objects
    assert isinstance(objects, LocalObjects)
    with TemporaryDirectory() as name:
        folder = Path(name)
        signature = json.loads(objects.get(f"{model.uri}/signature.json"))
        signature["numeric"][0] = "unheard_of"
        (folder / "signature.json").write_text(json.dumps(signature))
        (folder / "model.onnx").write_bytes(objects.get(f"{model.uri}/model.onnx"))
        as_of = datetime(2026, 11, 9, tzinfo=UTC)
        made = store_model(lake, folder, pipeline="fraud", as_of=as_of, training_set="0" * 64, seed=7)
    like = ledger.version("fraud", model.version)
    assert like is not None
    names = {"version": made.version}
    ledger.register(made, like.evaluation.model_copy(update=names), like.verdict.model_copy(update=names))
    return made


def test_the_real_service_follows_rollout_failure_and_rollback(
    service: HttpServing, registered: Callable[[int], Model], ledger: Ledger, lake: Lake
) -> None:
    who: dict[str, Any] = {"actor": "tester", "reason": "a test", "timeout_seconds": WAIT_SECONDS}
    first, second = registered(2), registered(3)
    roll_out(first, service, ledger, lake, **who)
    roll_out(second, service, ledger, lake, **who)
    assert httpx.get(f"{service.url}/v1/fraud", timeout=WAIT_SECONDS).json()["version"] == second.version
    bad = unservable(lake, ledger, second)
    with pytest.raises(DataError, match=f"unheard_of.*{second.version} is published again"):
        roll_out(bad, service, ledger, lake, **who)
    assert roll_back("fraud", service, ledger, lake, **who).to_version == first.version
    assert httpx.get(f"{service.url}/readyz", timeout=WAIT_SECONDS).status_code == 200
    assert not lake.objects.list("arrivals"), "probes are no predictions"
