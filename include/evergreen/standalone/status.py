"""What stands where: one summary of every pipeline, for people and for machines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from evergreen.artifacts import Evaluation, Model
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.monitoring.latest import latest_drift
from evergreen.pipeline_file import read_pipelines
from evergreen.settings import Settings

QUARANTINE_DAYS = 30
"""How far back refused rows are counted: their reasons are read from the rows themselves."""


def summarise(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """`{"pipelines": {name: ...}, "airflow": {"url"}}` as `evergreen status --json` prints it."""
    lake = Lake(settings.lake_url, settings.lake_options)
    names = [p.pipeline for p in read_pipelines(settings.pipelines)[0]]
    return {
        "pipelines": {name: _pipeline(name, settings, lake, ledger) for name in names},
        "airflow": {"url": f"http://127.0.0.1:{settings.airflow_port}"},
    }


def _pipeline(name: str, settings: Settings, lake: Lake, ledger: Ledger) -> dict[str, Any]:
    clean = lake.table("clean", name).days()
    current = ledger.current(name)
    registered = ledger.version(name, current.to_version) if current else None
    return {
        "days": len(clean),
        "rows": sum(day.rows for day in clean),
        "quarantined": _quarantined(name, lake),
        "champion": _champion(registered.model, registered.evaluation) if registered else None,
        "serving": {"url": f"{settings.serving_url}/v1/{name}/predict", "version": current.to_version}
        if current
        else None,
        "drift": _drift(name, lake),
        "retrain": _retrain(name, ledger),
    }


def _champion(model: Model, evaluation: Evaluation) -> dict[str, Any]:
    gain = evaluation.difference
    return {
        "version": model.version,
        "as_of": (model.as_of - timedelta(days=1)).date().isoformat(),
        "metrics": {name: estimate.model_dump() for name, estimate in evaluation.metrics.items()},
        "beat": {"version": evaluation.champion, "average_precision": gain.model_dump()} if gain else None,
    }


def _quarantined(name: str, lake: Lake) -> dict[str, int]:
    """Rows by reason over the last QUARANTINE_DAYS days up to the newest that was validated."""
    table = lake.table("quarantine", name)
    days = table.days()
    recent = [one.day for one in days if one.rows and one.day > days[-1].day - timedelta(days=QUARANTINE_DAYS)]
    if not recent:
        return {}
    reasons = pl.DataFrame(table.read(recent, ["reasons"])).explode("reasons")
    return dict(reasons.group_by("reasons").len().sort("reasons").iter_rows())


def _drift(name: str, lake: Lake) -> dict[str, Any] | None:
    report = latest_drift(name, lake)
    if report is None:
        return None
    verdict = "drifted" if report.drifted else "quiet"
    return {"verdict": verdict, "as_of": report.last_day.isoformat(), "reason": report.reason}


def _retrain(name: str, ledger: Ledger) -> dict[str, Any] | None:
    decisions = ledger.decisions(name)
    if not decisions:
        return None
    decision = decisions[-1][1]
    return {
        "decision": "retrain" if decision.retrain else "no retrain",
        "reason": decision.reason,
        "as_of": decision.day.isoformat(),
    }
