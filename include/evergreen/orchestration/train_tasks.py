"""The tasks of `<pipeline>.train_model` around its two pods."""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING

from airflow.sdk import PokeReturnValue, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from evergreen.artifacts import Evaluation, Model, Verdict
from evergreen.orchestration.proof import SPEC, Proven, Stage, pod_result, proof, taken
from evergreen.orchestration.schedule import model_asset

if TYPE_CHECKING:
    from evergreen.lake.lake import Lake

logger = logging.getLogger(__name__)


@task.sensor(poke_interval=30, timeout=6 * 3600, mode="reschedule", retries=2)
def wait_for_features(pipeline: str) -> PokeReturnValue:
    """Wait until the day's features are built; a run started by hand, by drift or by a backfill does not wait."""
    with proof(pipeline) as stage:
        if scheduled(stage) and not stage.pipeline.retraining.nightly:
            raise AirflowSkipException(f"{pipeline} is not trained every night: retraining.nightly is false.")
        if features_are_there(stage.lake, pipeline, stage.day):
            stage.finish()
            return PokeReturnValue(is_done=True)
        if not scheduled(stage):
            raise AirflowFailException(
                f"Features of {pipeline} for {stage.day}: found none, wanted that day. Run or backfill "
                f"{pipeline}.ingest_data for {stage.day} first."
            )
        return PokeReturnValue(is_done=False)


def features_are_there(lake: Lake, pipeline: str, day: date) -> bool:
    """Whether the day's features were ever built."""
    return lake.table("features", pipeline).day(day) is not None


def scheduled(stage: Stage) -> bool:
    """Whether the nightly schedule started this run."""
    kind = stage.context["dag_run"].run_type
    return str(getattr(kind, "value", kind)) == "scheduled"


@task
def build_training_set(pipeline: str) -> Proven:
    """Freeze what was known at the end of the as-of day into a training set."""
    with proof(pipeline) as stage:
        from evergreen.features.training_set import build_training_set as build

        spec = stage.pipeline
        path = f"specs/{spec.pipeline}/{spec.digest}.json"
        stage.lake.objects.put(path, spec.model_dump_json().encode())
        # The pods of this run, and of its later tries, keep this spec, whatever becomes of the file meanwhile.
        stage.context["ti"].xcom_push(key=SPEC, value=path)
        return stage.finish(build(spec, stage.day, stage.lake, window_days=stage.params.get("window_days")))


@task
def choose_champion(pipeline: str) -> Proven:
    """Find the model to beat: what serves now; in a backfill, what served at the as-of instant."""
    with proof(pipeline) as stage:
        from evergreen.lake.lake import end_of

        ledger = stage.ledger
        serving = ledger.serving_at(pipeline, end_of(stage.day)) if stage.is_backfill else ledger.current(pipeline)
        registered = ledger.version(pipeline, serving.to_version) if serving else None
        model = registered.model if registered else None
        return stage.finish(**({"Champion": model} if model else {}))


@task
def judge_model(pipeline: str) -> Proven:
    """Hold the evaluation against the gate and register the version with its verdict."""
    with proof(pipeline) as stage:
        from evergreen.evaluation.gate import decide

        context = stage.context
        model = taken(pod_result("train", context), Model)
        evaluation = taken(pod_result("evaluate", context), Evaluation)
        verdict = decide(stage.pipeline, evaluation)
        stage.ledger.register(model, evaluation, verdict)
        stage.anchor()
        for reason in verdict.reasons:
            logger.info("%s: %s", "approved" if verdict.approved else "refused", reason)
        return stage.finish(verdict, Model=model)


@task
def publish_model(pipeline: str, judged: Proven) -> Proven:
    """Announce an approved model, which deploys it; a backfilled model is never announced."""
    with proof(pipeline, judged) as stage:
        verdict = taken(judged, Verdict)
        if stage.is_backfill:
            raise AirflowSkipException(f"{verdict.version} comes from a backfill: registered, never deployed.")
        if not (verdict.approved or stage.params.get("force")):
            raise AirflowSkipException(f"{verdict.version} was refused: {' '.join(verdict.reasons)}")
        event = get_current_context()["outlet_events"][model_asset(stage.pipeline)]
        event.add_partitions(stage.day.isoformat())
        event.extra = {"version": verdict.version}
        return stage.finish(verdict)
