"""Finds the newest drift report of a pipeline; reports are kept as JSON beside their pages."""

from __future__ import annotations

from evergreen.artifacts import DriftReport, ObjectRef
from evergreen.lake.lake import Lake


def keep_report(report: DriftReport, lake: Lake) -> ObjectRef:
    """The report as JSON, beside its page; a report of the same last day is replaced."""
    return lake.objects.put(f"{_folder(report.pipeline)}/{report.last_day}.json", report.to_json().encode())


def latest_drift(pipeline: str, lake: Lake) -> DriftReport | None:
    """The report with the latest last day; None when there is none."""
    kept = [path for path in lake.objects.list(_folder(pipeline)) if path.endswith(".json")]
    return DriftReport.from_json(lake.objects.get(max(kept))) if kept else None


def _folder(pipeline: str) -> str:
    return f"reports/{pipeline}/drift"
