"""Rows of the ledger as the artifacts they stand for, and the latest of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from evergreen.artifacts import Artifact, Deployment, Evaluation, Model, RetrainDecision, Verdict
from evergreen.ledger.tables import deployments, model_versions

DEPLOYMENT_COLUMNS = tuple(Deployment.model_fields)


class RegisteredVersion(Artifact):
    """A model version as the ledger last had it, approved or not."""

    model: Model
    evaluation: Evaluation
    verdict: Verdict
    registered_at: datetime


def registered(row: sa.Row[Any]) -> RegisteredVersion:
    """The registration that a row of model_versions holds."""
    return RegisteredVersion(
        model=Model.model_validate(row.model),
        evaluation=Evaluation.model_validate(row.evaluation),
        verdict=Verdict.model_validate(row.verdict),
        registered_at=row.registered_at,
    )


def deployed(row: sa.Row[Any]) -> Deployment:
    """The deployment that a row of deployments holds."""
    return Deployment.model_validate({name: getattr(row, name) for name in DEPLOYMENT_COLUMNS})


def decided(row: sa.Row[Any]) -> RetrainDecision:
    """The decision that a row of decisions holds."""
    return RetrainDecision.model_validate(row.decision)


def latest_registration(connection: sa.Connection, pipeline_name: str, version: str) -> sa.Row[Any] | None:
    """The newest row about one version."""
    table = model_versions
    where = (table.c.pipeline == pipeline_name) & (table.c.version == version)
    return connection.execute(_newest(table, where)).one_or_none()


def latest_deployment(
    connection: sa.Connection, pipeline_name: str, *, until: datetime | None = None
) -> Deployment | None:
    """The newest deployment, of those not after `until` if it is given."""
    where = deployments.c.pipeline == pipeline_name
    if until is not None:
        where &= deployments.c.at <= until
    row = connection.execute(_newest(deployments, where)).one_or_none()
    return None if row is None else deployed(row)


def _newest(table: sa.Table, where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table).where(where).order_by(table.c.sequence.desc()).limit(1)
