"""Watch a served model: drift report -> governor -> perhaps a retrain. One DAG a pipeline."""

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param

from evergreen.orchestration.monitor_tasks import check_drift, decide_retrain, retrain_is_wanted
from evergreen.orchestration.pipelines import pipelines
from evergreen.orchestration.schedule import DEFAULT_ARGS, NIGHTLY, day_param
from evergreen.orchestration.train_tasks import wait_for_features

DAY = "{{ ti.xcom_pull(task_ids='decide_retrain')['result']['RetrainDecision']['day'] }}"

for pipeline in pipelines():
    with DAG(
        dag_id=f"{pipeline.pipeline}.monitor_drift",
        schedule=NIGHTLY,
        catchup=False,
        max_active_runs=2,
        dagrun_timeout=timedelta(hours=8),
        default_args=DEFAULT_ARGS | {"owner": pipeline.owner},
        tags=["evergreen", pipeline.pipeline],
        params={
            "day": day_param("Last day (UTC)", "Last day of the window. Empty: the partition key, else yesterday."),
            "window_days": Param(
                None, type=["null", "integer"], minimum=1, title="Days compared", description="Empty: the spec's."
            ),
        },
        doc_md=f"""### {pipeline.purpose}
Compares recent days with the days the champion learned from. The governor decides whether a retrain is worth it and
records why, also when it is not. A backfill makes reports and never asks for a retrain.""",
    ):
        ready = wait_for_features(pipeline.pipeline)
        checked = check_drift(pipeline.pipeline)
        decided = decide_retrain(pipeline.pipeline, checked)
        retrain = TriggerDagRunOperator(
            task_id="train_model",
            trigger_dag_id=f"{pipeline.pipeline}.train_model",
            trigger_run_id=f"drift__{pipeline.pipeline}__{DAY}",
            logical_date=None,
            skip_when_already_exists=True,
            fail_when_dag_is_paused=True,  # a run of a paused DAG stays queued for ever, which nobody would see
            conf={"day": DAY},
        )
        ready >> checked
        retrain_is_wanted(pipeline.pipeline, decided) >> retrain
