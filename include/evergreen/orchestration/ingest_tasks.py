"""The tasks of `<pipeline>.ingest_data`: one day from the source to its features."""

from __future__ import annotations

from airflow.sdk import get_current_context, task

from evergreen.artifacts import CleanBatch, RawBatch
from evergreen.orchestration.connections import connection_url
from evergreen.orchestration.proof import Proven, proof, taken
from evergreen.orchestration.schedule import clean_asset, features_asset


@task
def extract_day(pipeline: str) -> Proven:
    """Stream the day, and days that got late rows, from the source into the raw zone."""
    with proof(pipeline) as stage:
        from evergreen.ingestion.ingest import ingest_day
        from evergreen.ingestion.sql import open_source

        source = open_source(stage.pipeline, connection_url(stage.pipeline.source.connection))
        return stage.finish(ingest_day(stage.pipeline, source, stage.day, stage.lake))


@task
def validate_day(pipeline: str, raw: Proven) -> Proven:
    """Clean the rows, hold them to their expectations, put bad ones into quarantine."""
    with proof(pipeline, raw) as stage:
        from evergreen.validation.validate import validate_day as validate

        return stage.finish(validate(stage.pipeline, taken(raw, RawBatch), stage.lake))


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
