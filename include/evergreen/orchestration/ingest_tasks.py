"""The tasks of `<pipeline>.ingest_data`: one day from the source to its features."""

from __future__ import annotations

from airflow.sdk import get_current_context, task

from evergreen.artifacts import CleanBatch, RawBatch
from evergreen.orchestration.connections import connection_url
from evergreen.orchestration.proof import Proven, Stage, proof, taken
from evergreen.orchestration.schedule import clean_asset, features_asset


@task
def extract_day(pipeline: str) -> Proven:
    """Stream the day, days that got late rows, and in a nightly run missed ones, from the source into the raw zone."""
    with proof(pipeline) as stage:
        from evergreen.ingestion.ingest import ingest_day
        from evergreen.ingestion.missed import missed_days
        from evergreen.ingestion.sql import open_source

        source = open_source(stage.pipeline, connection_url(stage.pipeline.source.connection))
        missed = missed_days(stage.pipeline, stage.day, stage.lake) if _makes_up(stage) else []
        return stage.finish(ingest_day(stage.pipeline, source, stage.day, stage.lake, missed))


def _makes_up(stage: Stage) -> bool:
    """Whether the run is nightly, and no more than one other is under way: a backfill would read the same days."""
    run = stage.context["dag_run"]
    if run.run_type != "scheduled":
        return False
    under_way: int = stage.context["ti"].get_dr_count(dag_id=run.dag_id, states=["queued", "running"])
    return under_way <= 2


@task
def validate_day(pipeline: str, raw: Proven) -> Proven:
    """Clean the rows, hold them to their expectations, put bad ones into quarantine.

    Pages of earlier days that were refused are on the receipt too, and so on the task's Evidence page.
    """
    with proof(pipeline, raw) as stage:
        from evergreen.validation.validate import refused_pages
        from evergreen.validation.validate import validate_day as validate

        clean = validate(stage.pipeline, taken(raw, RawBatch), stage.lake)
        return stage.finish(clean, *refused_pages(clean, stage.lake))


@task
def build_features(pipeline: str, clean: Proven) -> Proven:
    """Build the day's features, then tell downstream DAGs that the day is ready."""
    with proof(pipeline, clean) as stage:
        from evergreen.features.build import build_features as build

        proven = stage.finish(build(stage.pipeline, taken(clean, CleanBatch), stage.lake))
        events = get_current_context()["outlet_events"]
        for asset in (clean_asset(stage.pipeline), features_asset(stage.pipeline)):
            events[asset].add_partitions(stage.day.isoformat())
            events[asset].extra = {"receipt": proven["receipt"]}
        return proven
