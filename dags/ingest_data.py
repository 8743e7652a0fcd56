"""Ingest a day: source -> raw -> clean (or quarantine) -> features. One DAG a pipeline."""

from datetime import timedelta

from airflow.sdk import DAG

from evergreen.orchestration.ingest_tasks import build_features, extract_day, validate_day
from evergreen.orchestration.pipelines import pipelines
from evergreen.orchestration.schedule import DEFAULT_ARGS, NIGHTLY, clean_asset, day_param, features_asset

for pipeline in pipelines():
    with DAG(
        dag_id=f"{pipeline.pipeline}.ingest_data",
        schedule=NIGHTLY,
        catchup=False,
        max_active_runs=4,
        dagrun_timeout=timedelta(hours=4),
        default_args=DEFAULT_ARGS | {"owner": pipeline.owner},
        tags=["evergreen", pipeline.pipeline],
        params={"day": day_param("Day (UTC)", "Day to ingest. Empty: the partition key, else yesterday.")},
        doc_md=f"""### {pipeline.purpose}
Reads one UTC day of `{pipeline.source.table}`, cleans and validates it, puts bad rows into quarantine with their
reasons, and builds features. Running a day again replaces exactly that day; backfill any range in any order. A
nightly run also makes up for the nights before it that Airflow missed.""",
    ):
        raw = extract_day(pipeline.pipeline)
        clean = validate_day(pipeline.pipeline, raw)
        build_features.override(outlets=[clean_asset(pipeline), features_asset(pipeline)])(pipeline.pipeline, clean)
