"""The pages' web app. Airflow does not authenticate plugin apps, so this one asks Airflow's auth manager itself."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette import status

from evergreen.artifacts import Receipt
from evergreen.errors import EvergreenError, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import read_receipts
from evergreen.ledger.ledger import Ledger
from evergreen.orchestration.pipelines import pipelines
from evergreen.settings import Settings

logger = logging.getLogger(__name__)
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)
TEMPLATES.filters["moment"] = lambda at: (
    at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if isinstance(at, datetime) else at
)
SAFE_REPORT = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Reports carry their own style and pictures and need nothing else: no script, no network."""


def require_user(user: GetUserDep) -> None:
    """Every route of this app needs someone who is logged in."""


app = FastAPI(title="Evergreen", dependencies=[Depends(require_user)], docs_url=None, redoc_url=None, openapi_url=None)


@app.exception_handler(EvergreenError)
def failure(request: Request, error: EvergreenError) -> HTMLResponse:
    """The error's own sentence: what does not answer, and what to do."""
    logger.warning("%s cannot be shown: %s", request.url.path, error)
    code = status.HTTP_503_SERVICE_UNAVAILABLE if error.retryable else status.HTTP_500_INTERNAL_SERVER_ERROR
    return HTMLResponse(TEMPLATES.get_template("failure.html").render(error=error), code)


@app.get("/")
def overview(user: GetUserDep) -> HTMLResponse:
    """Every pipeline the user may read: champion, deployments, decisions."""
    ledger = Ledger(Settings.from_environment().database_url)
    readable = [
        p.pipeline
        for p in pipelines()
        if get_auth_manager().is_authorized_dag(
            method="GET", details=DagDetails(id=f"{p.pipeline}.train_model"), user=user
        )
    ]
    shown = [
        {
            "name": name,
            "history": ledger.history(name)[::-1][:20],
            "decisions": ledger.decisions(name)[::-1][:20],
            "versions": ledger.versions(name)[::-1][:20],
        }
        for name in readable
    ]
    return HTMLResponse(TEMPLATES.get_template("overview.html").render(pipelines=shown))


@app.get("/evidence/{dag_id}/{run_id}/{task_id}", dependencies=[Depends(requires_access_dag("GET"))])
def evidence(dag_id: str, run_id: str, task_id: str) -> HTMLResponse:
    """The receipts of one task of one run, of a mapped task those of all its instances, each with its reports."""
    receipts = read_receipts(_lake(), dag_id.split(".")[0], f"{dag_id}.{run_id}")
    found = [r for r in receipts if r.task == task_id or r.task.startswith(f"{task_id}.")]
    page = TEMPLATES.get_template("evidence.html")
    return HTMLResponse(page.render(task=task_id, receipts=[(r, _reports(r)) for r in found], dag_id=dag_id))


@app.get("/report/{dag_id}/{kind}/{name}", dependencies=[Depends(requires_access_dag("GET"))])
def report(dag_id: str, kind: str, name: str) -> HTMLResponse:
    """One report of the DAG's pipeline, as it lies in the lake."""
    if not all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in (kind, name)):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "No such report.")
    try:
        page = _lake().objects.get(f"reports/{dag_id.split('.')[0]}/{kind}/{name}")
    except NotFound as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error
    return HTMLResponse(page, headers={"Content-Security-Policy": SAFE_REPORT})


def _reports(receipt: Receipt) -> list[str]:
    """`<kind>/<name>` of every HTML report among a receipt's outputs."""
    prefix = f"reports/{receipt.pipeline}/"
    paths = [o.path for o in receipt.objects if o.path.startswith(prefix) and o.path.endswith(".html")]
    return [path.removeprefix(prefix) for path in paths]


def _lake() -> Lake:
    settings = Settings.from_environment()
    return Lake(settings.lake_url, settings.lake_options)
