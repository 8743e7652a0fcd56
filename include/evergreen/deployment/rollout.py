"""Moves production to a model, and back if it does not answer well.

Ledger first, lake second: the ledger is the truth and `current.json` its published copy, so that a
process that ends between the two is healed by `reconcile`, which every rollout starts with.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Protocol

from evergreen.artifacts import Deployment, Model
from evergreen.deployment.http_serving import HttpServing
from evergreen.deployment.target import ServingTarget
from evergreen.errors import (
    ConfigurationError,
    DataError,
    EvergreenError,
    IntegrityError,
    NotFound,
    Overtaken,
    TemporaryError,
)
from evergreen.lake.deployments import note_confirmed, publish_deployment, published_deployment, was_confirmed
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.ledger.rows import RegisteredVersion
from evergreen.training.scorer import Scorer

__all__ = ["CONFIRM_SECONDS", "DeploymentLedger", "HttpServing", "reconcile", "roll_back", "roll_out"]
logger = logging.getLogger(__name__)
CONFIRM_SECONDS = 60.0
OVERTAKEN = "Another rollout came meanwhile and stands."


class DeploymentLedger(Protocol):
    """The part of the ledger that rollouts use."""

    def version(self, pipeline_name: str, version: str) -> RegisteredVersion | None:
        """A registered version; None when there is no such."""

    def deploy(self, model: Model, *, actor: str, reason: str) -> Deployment:
        """The deployment that makes `model` serve from now on."""

    def current(self, pipeline_name: str) -> Deployment | None:
        """What serves now."""

    def previous(self, pipeline_name: str) -> Deployment | None:
        """Where a rollback leads."""


def roll_out(
    model: Model,
    target: ServingTarget,
    ledger: DeploymentLedger,
    lake: Lake,
    *,
    actor: str,
    reason: str,
    allow_older: bool = False,
    timeout_seconds: float = CONFIRM_SECONDS,
) -> Deployment:
    """The deployment by which `model` now serves, recorded, published and confirmed by `target`.

    The version that serves already is published and confirmed again, without a ledger entry. When the
    target does not confirm a deployment that never was, what served before is published again, both
    entries stay, and the target's error is raised; that a try before this one died while it waited makes
    no difference.

    Raises ConfigurationError when the target may not be asked, or the model is older than what serves and
    `allow_older` is not set; TemporaryError when it cannot be found out whether the target may be asked;
    IntegrityError when the model's bytes are not the recorded ones; Overtaken when another rollout came between.
    Production is then as it was, or as that other rollout has it.
    """
    target.look()
    deployment, before = _begin(model, ledger, lake, actor=actor, reason=reason, allow_older=allow_older)
    try:
        target.confirm(deployment, timeout_seconds)
    except EvergreenError as error:
        outcome = _undo(deployment, before, ledger, lake, actor=actor, error=error)
        raise _with_outcome(error, outcome) from error
    note_confirmed(lake, deployment)
    logger.info("%s rolled out to %s by %s: %s", model.pipeline, model.version, actor, reason)
    return deployment


def roll_back(
    pipeline_name: str,
    target: ServingTarget,
    ledger: DeploymentLedger,
    lake: Lake,
    *,
    actor: str,
    reason: str,
    timeout_seconds: float = CONFIRM_SECONDS,
) -> Deployment:
    """The deployment by which the version before the current one serves again.

    It served before, and replicas follow the lake: it is undone, as `roll_out` does, only when the target refuses
    it (DataError). When the target cannot be asked or does not answer in time the rollback stays, and the target's
    error is raised. Raises NotFound when nothing served before, and ConfigurationError when the target may not be
    asked, IntegrityError and Overtaken as `roll_out` does.
    """
    previous = ledger.previous(pipeline_name)
    if previous is None:
        raise NotFound(
            f"Rollback of {pipeline_name}",
            found="no version that served before the current one",
            wanted="an earlier one to go back to",
            remedy=f"Deploy a version by hand with {pipeline_name}.deploy_model.",
        )
    with suppress(TemporaryError):  # production goes back all the same, and `confirm` tells of it
        target.look()
    model = _registered(previous, ledger)
    deployment, before = _begin(model, ledger, lake, actor=actor, reason=reason, allow_older=True)
    note_confirmed(lake, deployment)  # for it served before: deploying it once more never leads further back
    try:
        target.confirm(deployment, timeout_seconds)
    except DataError as error:
        outcome = _undo(deployment, before, ledger, lake, actor=actor, error=error)
        raise _with_outcome(error, outcome) from error
    except EvergreenError as error:
        raise _with_outcome(error, _kept(deployment, ledger)) from error
    logger.info("%s rolled back to %s by %s: %s", pipeline_name, model.version, actor, reason)
    return deployment


def _begin(
    model: Model, ledger: DeploymentLedger, lake: Lake, *, actor: str, reason: str, allow_older: bool
) -> tuple[Deployment, Deployment | None]:
    """The deployment of `model`, verified and published, and the one to go back to if it is not confirmed."""
    Scorer.load(lake, model.uri, model.digest)
    publish_days(lake, "clean", model.pipeline)
    current = reconcile(model.pipeline, ledger, lake)
    if current is not None and current.to_version == model.version:
        publish_deployment(lake, current)
        return current, None if was_confirmed(lake, current) else ledger.previous(model.pipeline)
    if current is not None and not allow_older:
        _require_newer(model, current, ledger)
    deployment = ledger.deploy(model, actor=actor, reason=reason)
    _publish(deployment, ledger, lake)
    return deployment, current


def reconcile(pipeline_name: str, ledger: DeploymentLedger, lake: Lake) -> Deployment | None:
    """The ledger's current deployment, after it was published if it was not; None when there is none."""
    current = ledger.current(pipeline_name)
    published = _published(pipeline_name, lake)
    if current is not None and published != current:
        publish_deployment(lake, current)
        logger.warning("%s: published %s again, as the ledger has it", pipeline_name, current.to_version)
    elif current is None and published is not None:
        logger.warning("%s: %s is published, but the ledger knows of none", pipeline_name, published.to_version)
    return current


def _published(pipeline_name: str, lake: Lake) -> Deployment | None:
    try:
        return published_deployment(lake, pipeline_name)
    except IntegrityError:  # what is no deployment is about to be replaced by one
        return None


def _publish(deployment: Deployment, ledger: DeploymentLedger, lake: Lake) -> None:
    """Publishes what the ledger has now; Overtaken when that is no longer `deployment`."""
    current = reconcile(deployment.pipeline, ledger, lake)
    if current != deployment:
        raise Overtaken(
            f"Rollout of {deployment.pipeline} {deployment.to_version}",
            found=f"another rollout, to {current.to_version if current else 'nothing'}, right after it",
            wanted="to be the latest",
            remedy="Roll out again if this version is to serve.",
        )


def _undo(
    failed: Deployment,
    before: Deployment | None,
    ledger: DeploymentLedger,
    lake: Lake,
    *,
    actor: str,
    error: EvergreenError,
) -> str:
    """What became of production, in a sentence, after `before` was made to serve again where that is right."""
    if before is None:
        why = "It served before" if was_confirmed(lake, failed) else f"Nothing served {failed.pipeline} before"
        return f"{why}, so {failed.to_version} stays published."
    if ledger.current(failed.pipeline) != failed:
        return OVERTAKEN
    reason = f"undo of deployment {failed.sequence}: {error}"
    undone = ledger.deploy(_registered(before, ledger), actor=actor, reason=reason)
    reconcile(failed.pipeline, ledger, lake)
    note_confirmed(lake, undone)
    logger.error("%s is back to %s: %s", failed.pipeline, before.to_version, error)
    return f"{before.to_version} is published again."


def _kept(unseen: Deployment, ledger: DeploymentLedger) -> str:
    """What became of production after a rollback that was not seen to serve, in sentences."""
    if ledger.current(unseen.pipeline) != unseen:
        return OVERTAKEN
    return (
        f"The rollback stays: {unseen.to_version} is published, and each replica takes it up when it reads the lake. "
        "Ask them again with `evergreen doctor`; another rollback would lead further back."
    )


def _with_outcome(error: EvergreenError, outcome: str) -> EvergreenError:
    """The same error that also says what became of production; no retry repeats one that a later rollout overtook."""
    kind = Overtaken if outcome == OVERTAKEN else type(error)
    return kind(
        error.thing,
        found=error.found,
        wanted=error.wanted,
        remedy=f"{outcome} {error.remedy}",
        details=error.details,
    )


def _require_newer(model: Model, champion: Deployment, ledger: DeploymentLedger) -> None:
    known = ledger.version(champion.pipeline, champion.to_version)
    if known is not None and model.as_of < known.model.as_of:
        raise ConfigurationError(
            f"Model {model.version} of {model.pipeline}",
            found=f"knowledge up to {model.as_of:%Y-%m-%d}",
            wanted=f"no older than {champion.to_version}, which serves and knows up to {known.model.as_of:%Y-%m-%d}",
            remedy="Choose the version by hand in the form, or roll back.",
        )


def _registered(deployment: Deployment, ledger: DeploymentLedger) -> Model:
    known = ledger.version(deployment.pipeline, deployment.to_version)
    if known is None:
        raise NotFound(
            f"Version {deployment.to_version} of {deployment.pipeline}",
            found="a deployment without a registration",
            wanted="a registered version",
            remedy="Run `evergreen audit verify`: rows of the ledger are missing.",
        )
    return known.model
