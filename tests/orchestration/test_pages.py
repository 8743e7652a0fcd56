"""The pages that a task's link leads to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest
from evergreen_plugin import EvergreenPlugin

from evergreen.artifacts import Receipt
from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.ledger.ledger import Ledger

if TYPE_CHECKING:  # its import warns of httpx, which only a test may ignore
    from starlette.testclient import TestClient

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`")
RUN = "fraud.train_model.manual__1"


@pytest.fixture
def receipts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of `train`, and one of each of the two instances of the mapped task `try_round_1`."""
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    for task in ("train", "try_round_1.0", "try_round_1.1", "try_round_10"):
        _write_receipt(lake, run=RUN, task=task, inputs={"training set": f"of {task}"})


def _write_receipt(lake: Lake, **said: object) -> None:
    given = {"pipeline": "fraud", "attempt": 1, "inputs": {}, "spec_digest": "0", "code_version": "0"}
    given |= {"started_at": datetime(2026, 11, 1, tzinfo=UTC), "seconds": 1, "peak_memory_bytes": 1}
    write_receipt(lake, Receipt.model_validate(given | said))


@pytest.fixture
def browser() -> Iterator[TestClient]:
    """Someone who is logged in and may read every DAG."""
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    from evergreen.orchestration.pages.app import app

    app.dependency_overrides[get_user] = lambda: None
    yield TestClient(app)
    app.dependency_overrides.clear()


def _page(task: str) -> str:
    from evergreen.orchestration.pages.app import evidence

    return bytes(evidence("fraud.train_model", "manual__1", task).body).decode()


def _inputs_on_page(task: str) -> list[str]:
    page = _page(task)
    return [line.split("of ")[1].split("<")[0] for line in page.splitlines() if "<code>of " in line]


@pytest.mark.usefixtures("receipts")
def test_a_task_shows_its_own_receipt_and_a_mapped_one_those_of_its_instances() -> None:
    assert _inputs_on_page("train") == ["train"]
    assert _inputs_on_page("try_round_1") == ["try_round_1.0", "try_round_1.1"]


@pytest.mark.usefixtures("receipts")
def test_a_task_without_a_receipt_says_so() -> None:
    assert _inputs_on_page("evaluate") == []
    assert "No receipt yet" in _page("evaluate")


def test_evidence_of_a_task_leads_to_its_reports(
    lake: Lake, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.api_fastapi.core_api.security.get_auth_manager", lambda: EveryDag())
    monkeypatch.setattr("airflow.models.dag.DagModel.get_team_name", lambda dag_id: None)
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    report = lake.objects.put("reports/fraud/drift/2026-11-01.html", b"<p>Nothing drifted.</p>")
    _write_receipt(lake, run="fraud.monitor_drift.manual__1", task="check_drift", objects=(report,))
    (link,) = [view for view in EvergreenPlugin.external_views if view["destination"] == "task_instance"]
    href = link["href"].format(DAG_ID="fraud.monitor_drift", RUN_ID="manual__1", TASK_ID="check_drift")
    page = browser.get(href.removeprefix("evergreen"))
    assert page.status_code == 200
    shown = re.search(r'(?:src|href)="([^"]*report/[^"]*2026-11-01\.html)"', page.text)
    assert shown is not None, page.text
    answer = browser.get(urljoin(str(page.url), shown[1]))
    assert (answer.status_code, answer.text) == (200, "<p>Nothing drifted.</p>")
    assert "default-src" in answer.headers["content-security-policy"]
    assert browser.get("/report/fraud.monitor_drift/drift/2026-11-02.html").status_code == 404


def test_ledger_that_does_not_answer_is_named_on_the_page(
    browser: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evergreen.orchestration.pages.app.get_auth_manager", lambda: EveryDag())
    folder = tmp_path / "<b>nowhere"
    monkeypatch.setenv("EVERGREEN_DATABASE_URL", f"postgresql+psycopg2://postgres@/evergreen?host={folder}")
    page = browser.get("/")
    assert page.status_code == 503
    assert page.headers["content-type"].startswith("text/html")
    assert "Start the database or check EVERGREEN_DATABASE_URL" in page.text
    assert "&lt;b&gt;nowhere" in page.text
    assert "<b>" not in page.text


def test_what_no_retry_mends_is_an_error_of_the_server(browser: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evergreen.orchestration.pages.app.get_auth_manager", lambda: EveryDag())
    altered = IntegrityError(
        "The ledger", found="other bytes", wanted="its own", remedy="Run `evergreen audit verify`."
    )

    def refuse(*_: object) -> None:
        raise altered

    monkeypatch.setattr(Ledger, "history", refuse)
    page = browser.get("/")
    assert page.status_code == 500
    assert "Run `evergreen audit verify`." in page.text


class EveryDag:
    """An auth manager by which everyone may read every DAG."""

    def is_authorized_dag(self, **_: object) -> bool:
        return True
