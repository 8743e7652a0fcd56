"""What all DAGs share: the nightly tick, retries, trigger forms and assets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, CronPartitionTimetable, Param
from airflow.sdk.exceptions import AirflowFailException

from evergreen.pipeline import Pipeline

NIGHTLY = CronPartitionTimetable(
    "0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d", run_immediately=timedelta(0)
)
"""Midnight UTC, for the day that just ended; the partition key is that day. Only a midnight tick lets
scheduled, manual and backfilled runs agree on the day. A first start runs nothing: without `run_immediately` it would
for a tenth of the day, until 02:24."""

DEFAULT_ARGS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "execution_timeout": timedelta(hours=2),
}


def day_param(title: str, description: str) -> Param:
    """A trigger-form field for an optional UTC day."""
    return Param(None, type=["null", "string"], format="date", title=title, description_md=description)


def resolve_day(context: Mapping[str, Any]) -> date:
    """The UTC day a run is about: the form's day, else its partition key, else the day before it runs.

    Raises AirflowFailException when form and key disagree or the day has not ended yet.
    """
    chosen = (context.get("params") or {}).get("day")
    run = context["dag_run"]
    key = getattr(run, "partition_key", None) or context.get("partition_key")
    if chosen and key and chosen != key:
        raise AirflowFailException(f"The form's day {chosen} and the partition key {key} differ: give one of them.")
    named = chosen or key
    day = date.fromisoformat(named) if named else _before(context)
    if day >= datetime.now(UTC).date():
        raise AirflowFailException(f"The day {day} has not ended yet (UTC): choose an earlier one.")
    return day


def _before(context: Mapping[str, Any]) -> date:
    run_after: datetime = context["dag_run"].run_after
    return (run_after.astimezone(UTC) - timedelta(days=1)).date()


def clean_asset(pipeline: Pipeline) -> Asset:
    """Days that passed their expectations."""
    return Asset(name=f"{pipeline.pipeline}.clean", uri=f"evergreen://clean/{pipeline.pipeline}", group="evergreen")


def features_asset(pipeline: Pipeline) -> Asset:
    """Days whose features are built."""
    return Asset(
        name=f"{pipeline.pipeline}.features", uri=f"evergreen://features/{pipeline.pipeline}", group="evergreen"
    )


def model_asset(pipeline: Pipeline) -> Asset:
    """Models the gate approved."""
    return Asset(name=f"{pipeline.pipeline}.model", uri=f"evergreen://models/{pipeline.pipeline}", group="evergreen")


def deployed_asset(pipeline: Pipeline) -> Asset:
    """Models that serve."""
    return Asset(
        name=f"{pipeline.pipeline}.deployed", uri=f"evergreen://deployments/{pipeline.pipeline}", group="evergreen"
    )
