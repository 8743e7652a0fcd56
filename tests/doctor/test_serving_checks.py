"""Serving that answers with what the ledger says, asks for another token, serves something else, or is not there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
import uvicorn

from doctor.conftest import Make
from doctor.looking import by_name, states
from evergreen.artifacts import Evaluation, Model, Verdict
from evergreen.doctor.airflow_checks import examine_airflow
from evergreen.doctor.serving_checks import examine_serving
from evergreen.lake.deployments import publish_deployment
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline import Pipeline
from evergreen.serving.app import create_app
from evergreen.serving.config import ServingConfig
from evergreen.serving.service import Service
from evergreen.standalone.home import Home

TOKEN = "a-long-random-token"


@contextmanager
def _served(pipeline: Pipeline, lake: Lake, folder: Path) -> Iterator[str]:
    """URL of the real service on loopback, asking for TOKEN."""
    config = ServingConfig()
    app = create_app({"fraud": Service(pipeline, lake, folder, config)}, config, token=TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(120)


@pytest.fixture
def deployed(
    database_url: str, lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]
) -> tuple[Ledger, Callable[[float], None]]:
    """A ledger, and what deploys a model of a slope in it alone."""
    ledger = Ledger(database_url)
    ledger.migrate()

    def deploy(slope: float) -> None:
        model, day = make_model(lake, fraud, slope=slope), date(2026, 11, 1)
        names = {"pipeline": "fraud", "version": model.version}
        evaluation = Evaluation(
            **names, training_set="0" * 64, holdout_days=(day, day), rows=9, positives=3, metrics={}, slices={}
        )
        verdict = Verdict(**names, approved=True, judged="absolute", champion=None, reasons=("good",))
        ledger.register(model, evaluation, verdict)
        ledger.deploy(model, actor="test", reason="test")

    return ledger, deploy


def test_service_that_serves_what_the_ledger_says_is_well(
    settings_of: Make, database_url: str, lake: Lake, fraud: Pipeline, tmp_path: Path,
    deployed: tuple[Ledger, Callable[[float], None]],
) -> None:  # fmt: skip
    ledger, deploy = deployed
    deploy(1.0)
    current = ledger.current("fraud")
    assert current is not None
    publish_deployment(lake, current)
    with _served(fraud, lake, tmp_path / "journal") as url:
        known = {"EVERGREEN_SERVING_URL": url, "EVERGREEN_DATABASE_URL": database_url}
        settings = settings_of(**known, EVERGREEN_SERVING_TOKEN=TOKEN)
        give_up_at = time.monotonic() + 120
        while (found := states(examine_serving(settings)))["version of fraud"] != "ok":
            assert time.monotonic() < give_up_at, found
            time.sleep(0.2)
        assert found == {"answers": "ok", "token": "ok", "version of fraud": "ok"}
        stranger = by_name(examine_serving(settings_of(**known, EVERGREEN_SERVING_TOKEN="another-token")))
        assert stranger["token"].state == "failed"
        assert "EVERGREEN_SERVING_TOKEN" in stranger["token"].remedy
        deploy(2.0)  # in the ledger, and not published: what serves is not what the ledger says
        behind = by_name(examine_serving(settings))["version of fraud"]
        assert behind.state == "failed"
        assert "deploy_model" in behind.remedy


def test_service_that_is_not_there_is_one_finding(settings_of: Make, closed_port: int) -> None:
    checks = list(examine_serving(settings_of(EVERGREEN_SERVING_URL=f"http://127.0.0.1:{closed_port}")))
    assert [check.state for check in checks] == ["failed"]
    assert "EVERGREEN_SERVING_URL" in checks[0].remedy


def test_airflow_that_never_ran_here_is_no_error(settings_of: Make) -> None:
    assert states(examine_airflow(settings_of())) == {"answers": "not applicable"}


def test_airflow_that_is_down_is_one_finding(settings_of: Make, closed_port: int) -> None:
    settings = settings_of(EVERGREEN_AIRFLOW_PORT=str(closed_port))
    password = Home.at(settings.home).secrets()["password"]
    checks = list(examine_airflow(settings))
    assert [check.state for check in checks] == ["failed"]
    assert "evergreen up" in checks[0].remedy
    assert password not in str(checks)
