"""The tasks of `<pipeline>.monitor_drift`: report, decide, ask for a retrain."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.artifacts import DriftReport, Model, RetrainDecision
from evergreen.orchestration.proof import Proven, Stage, proof, taken

logger = logging.getLogger(__name__)


@task
def check_drift(pipeline: str) -> Proven:
    """Compare the window's features and scores with what the champion learned from."""
    with proof(pipeline) as stage:
        from evergreen.features.build import refresh_features
        from evergreen.monitoring.check import check_drift as check
        from evergreen.monitoring.latest import keep_report

        model = _champion(stage)
        first, last = _window(stage)
        refresh_features(stage.pipeline, stage.lake, first, last)
        report = check(stage.pipeline, model, first, last, stage.lake)
        keep_report(report, stage.lake)
        return stage.finish(report, Model=model)


def _champion(stage: Stage) -> Model:
    """What served at the end of the day, else what serves now."""
    from evergreen.lake.lake import end_of

    name = stage.pipeline.pipeline
    serving = (stage.ledger.serving_at(name, end_of(stage.day)) if stage.is_backfill else None) or stage.ledger.current(
        name
    )
    registered = stage.ledger.version(name, serving.to_version) if serving else None
    if registered is None:
        raise AirflowSkipException(f"No model of {name} serves yet: there is nothing to compare with.")
    return registered.model


def _window(stage: Stage) -> tuple[date, date]:
    days = stage.params.get("window_days") or stage.pipeline.monitoring.window_days
    return stage.day - timedelta(days=days - 1), stage.day


@task
def decide_retrain(pipeline: str, checked: Proven) -> Proven:
    """Let the governor decide whether a retrain is worth it; the decision and its reason are recorded."""
    with proof(pipeline, checked) as stage:
        from evergreen.monitoring.governor import govern

        if stage.is_backfill:
            raise AirflowSkipException("A backfill reports drift and never asks for a retrain.")
        decision = govern(
            stage.pipeline,
            stage.day,
            taken(checked, DriftReport),
            taken(checked, Model),
            stage.ledger,
            stage.lake,
            now=datetime.now(UTC),
        )
        stage.anchor()
        logger.info("%s: %s", "retrain" if decision.retrain else "no retrain", decision.reason)
        return stage.finish(decision)


@task.short_circuit
def retrain_is_wanted(pipeline: str, decided: Proven) -> bool:
    """Go on only when the governor said so."""
    with proof(pipeline, decided) as stage:
        stage.finish()
        return taken(decided, RetrainDecision).retrain
