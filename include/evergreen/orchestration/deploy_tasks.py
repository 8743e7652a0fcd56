"""The tasks of `<pipeline>.deploy_model`: choose, ask, roll out."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.artifacts import Model, Verdict
from evergreen.errors import ConfigurationError
from evergreen.orchestration.proof import Proven, Stage, proof, taken
from evergreen.orchestration.schedule import deployed_asset, model_asset


@task
def choose_version(pipeline: str) -> Proven:
    """The version to deploy: the form's, else the one whose approval started this run."""
    with proof(pipeline) as stage:
        version = stage.params.get("version") or _announced(stage)
        registered = stage.ledger.version(pipeline, version)
        if registered is None:
            known = [v.model.version for v in stage.ledger.versions(pipeline)]
            raise ConfigurationError(
                f"Version {version}", found=f"versions {known[-5:]}", wanted="a registered one", remedy="Choose one."
            )
        return stage.finish(registered.model, registered.verdict)


def _announced(stage: Stage) -> str:
    events = stage.context["triggering_asset_events"].get(model_asset(stage.pipeline)) or []
    if not events:
        raise ConfigurationError(
            f"Deployment of {stage.pipeline.pipeline}",
            found="neither a version in the form nor an approved model",
            wanted="one of them",
            remedy="Trigger again with a version.",
        )
    return str(events[-1].extra["version"])


@task.branch
def ask_or_go(pipeline: str) -> str:
    """Ask a person first where the spec or the form says so."""
    with proof(pipeline) as stage:
        ask = stage.pipeline.deployment.approval or stage.params.get("require_approval")
        stage.finish()
        return "approve" if ask else "roll_out"


@task(trigger_rule="none_failed_min_one_success")
def roll_out(pipeline: str, chosen: Proven) -> Proven:
    """Move production to the chosen version, and back again if it does not answer well."""
    with proof(pipeline, chosen) as stage:
        from evergreen.deployment.rollout import roll_out as roll
        from evergreen.deployment.serving_target import serving_target

        if stage.is_backfill:
            raise AirflowSkipException("A backfill never moves production.")
        by_hand = bool(stage.params.get("version"))
        deployment = roll(
            taken(chosen, Model),
            serving_target(stage.settings),
            stage.ledger,
            stage.lake,
            actor="airflow",
            reason=stage.params.get("reason") or _reason(taken(chosen, Verdict), by_hand=by_hand),
            allow_older=by_hand,
        )
        stage.anchor()
        # A model as of midnight is about the day before, as its own partition says.
        day = (deployment.at if by_hand else taken(chosen, Model).as_of - timedelta(days=1)).date().isoformat()
        event = get_current_context()["outlet_events"][deployed_asset(stage.pipeline)]
        event.add_partitions(day)
        event.extra = {"version": deployment.to_version}
        return stage.finish(deployment)


def _reason(verdict: Verdict, *, by_hand: bool) -> str:
    if by_hand:
        return "chosen by hand"
    return "approved by the gate" if verdict.approved else f"forced, although: {' '.join(verdict.reasons)}"
