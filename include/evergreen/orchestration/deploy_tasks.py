"""The tasks of `<pipeline>.deploy_model`: choose, ask, roll out."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from evergreen.artifacts import Deployment, Model, Verdict
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
    version = events[-1].extra.get("version")
    if version is None:
        raise ConfigurationError(
            f"Deployment of {stage.pipeline.pipeline}",
            found="an event made by hand, which names no version",
            wanted="one of train_model's",
            remedy="Trigger deploy_model with a version instead.",
        )
    return str(version)


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
        from evergreen.ledger.anchor import anchored

        if stage.is_backfill:
            raise AirflowSkipException("A backfill never moves production.")
        by_hand, model, verdict = bool(stage.params.get("version")), taken(chosen, Model), taken(chosen, Verdict)
        if verdict.approved and not by_hand:
            _require_judged_against_what_serves(model, verdict, stage.ledger.current(pipeline))
        person = _approver(stage)
        with anchored(stage.ledger, stage.lake):
            deployment = roll(
                model,
                serving_target(stage.settings),
                stage.ledger,
                stage.lake,
                actor=stage.context["dag_run"].triggering_user_name or person or "airflow",
                reason=(stage.params.get("reason") or _reason(verdict, by_hand=by_hand))
                + (f"; {person} agreed" if person else ""),
                allow_older=by_hand,
            )
        # A model as of midnight is about the day before, as its own partition says.
        day = (deployment.at if by_hand else model.as_of - timedelta(days=1)).date().isoformat()
        event = get_current_context()["outlet_events"][deployed_asset(stage.pipeline)]
        event.add_partitions(day)
        event.extra = {"version": deployment.to_version}
        return stage.finish(deployment)


def _require_judged_against_what_serves(model: Model, verdict: Verdict, serving: Deployment | None) -> None:
    """Nothing, unless something came to serve that the gate did not compare with: the newcomer may be worse."""
    if serving is None or serving.to_version in (verdict.champion, model.version):
        return
    raise ConfigurationError(
        f"Deployment of {model.version}",
        found=f"a verdict against {verdict.champion or 'no champion'}, while {serving.to_version} serves by now",
        wanted="a verdict against what serves",
        remedy=f"Clear choose_champion in the run of {model.pipeline}.train_model that made it, to judge it again, "
        "or choose the version by hand in the form.",
    )


def _approver(stage: Stage) -> str | None:
    """Who said yes, where a person was asked first."""
    answer = stage.context["ti"].xcom_pull(task_ids="approve") or {}
    return (answer.get("responded_by_user") or {}).get("name")


def _reason(verdict: Verdict, *, by_hand: bool) -> str:
    if by_hand:
        return "chosen by hand"
    return "approved by the gate" if verdict.approved else f"forced, although: {' '.join(verdict.reasons)}"
