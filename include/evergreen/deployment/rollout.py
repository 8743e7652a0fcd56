"""Moves production to a model, and back if it does not answer well.

Ledger first, lake second: the ledger is the truth and `current.json` its published copy, so that a
process that ends between the two is healed by `reconcile`, which every rollout starts with.
"""

from __future__ import annotations

import logging
from typing import Protocol

from evergreen.artifacts import Deployment, Model
from evergreen.deployment.http_serving import HttpServing
from evergreen.deployment.target import ServingTarget
from evergreen.errors import ConfigurationError, Conflict, EvergreenError, IntegrityError, NotFound
from evergreen.lake.deployments import publish_deployment, published_deployment
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.ledger.rows import RegisteredVersion
from evergreen.training.scorer import Scorer

__all__ = ["CONFIRM_SECONDS", "DeploymentLedger", "HttpServing", "reconcile", "roll_back", "roll_out"]
logger = logging.getLogger(__name__)
CONFIRM_SECONDS = 60.0


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
    target does not confirm, what served before is published again, both entries stay, and the target's
    error is raised. Raises IntegrityError when the model's bytes are not the recorded ones,
    ConfigurationError when it is older than what serves and `allow_older` is not set, Conflict when
    another rollout came between; production is then as it was, or as that other rollout has it.
    """
    Scorer.load(lake, model.uri, model.digest)
    publish_days(lake, "clean", model.pipeline)
    before = reconcile(model.pipeline, ledger, lake)
    if before is not None and before.to_version == model.version:
        publish_deployment(lake, before)
        target.confirm(before, timeout_seconds)
        return before
    if before is not None and not allow_older:
        _require_newer(model, before, ledger)
    deployment = ledger.deploy(model, actor=actor, reason=reason)
    _publish(deployment, ledger, lake)
    try:
        target.confirm(deployment, timeout_seconds)
    except EvergreenError as error:
        outcome = _undo(deployment, before, ledger, lake, actor=actor, error=error)
        raise _with_outcome(error, outcome) from error
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

    Raises NotFound when nothing served before, and what `roll_out` raises.
    """
    previous = ledger.previous(pipeline_name)
    if previous is None:
        raise NotFound(
            f"Rollback of {pipeline_name}",
            found="no version that served before the current one",
            wanted="an earlier one to go back to",
            remedy=f"Deploy a version by hand with {pipeline_name}.deploy_model.",
        )
    model = _registered(previous, ledger)
    return roll_out(
        model,
        target,
        ledger,
        lake,
        actor=actor,
        reason=reason,
        allow_older=True,
        timeout_seconds=timeout_seconds,
    )


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
    """Publishes what the ledger has now; Conflict when that is no longer `deployment`."""
    current = reconcile(deployment.pipeline, ledger, lake)
    if current != deployment:
        raise Conflict(
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
        return f"Nothing served {failed.pipeline} before, so {failed.to_version} stays published."
    if ledger.current(failed.pipeline) != failed:
        return "Another rollout came meanwhile and stands."
    ledger.deploy(_registered(before, ledger), actor=actor, reason=f"undo of deployment {failed.sequence}: {error}")
    reconcile(failed.pipeline, ledger, lake)
    logger.error("%s is back to %s: %s", failed.pipeline, before.to_version, error)
    return f"{before.to_version} is published again."


def _with_outcome(error: EvergreenError, outcome: str) -> EvergreenError:
    """The same error that also says what became of production."""
    return type(error)(
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
