"""Deploy a model: choose a version, ask if wanted, roll out, or undo. One DAG a pipeline."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, PartitionedAssetTimetable

from evergreen.orchestration.deploy_tasks import ask_or_go, choose_version, roll_out
from evergreen.orchestration.pipelines import pipelines
from evergreen.orchestration.schedule import DEFAULT_ARGS, deployed_asset, model_asset

VERSION = "{{ ti.xcom_pull(task_ids='choose_version')['result']['Model']['version'] }}"

for pipeline in pipelines():
    with DAG(
        dag_id=f"{pipeline.pipeline}.deploy_model",
        schedule=PartitionedAssetTimetable(assets=model_asset(pipeline)),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=24),
        default_args=DEFAULT_ARGS | {"owner": pipeline.owner},
        tags=["evergreen", pipeline.pipeline],
        params={
            "version": Param(
                None, type=["null", "string"], title="Version", description="Any registered one, also an older one."
            ),
            "reason": Param("", type="string", title="Reason", description="Goes into the ledger."),
            "require_approval": Param(
                False, type="boolean", title="Ask a person first", description="Unanswered for 12 hours, the run fails."
            ),
        },
        doc_md=f"""### {pipeline.purpose}
Runs when the gate approves a model, or by hand with any registered version. The new model is verified and probed;
if it does not answer well the old one is put back. Every change is in the ledger:
`evergreen history {pipeline.pipeline}`.""",
    ):
        chosen = choose_version(pipeline.pipeline)
        ask = ask_or_go(pipeline.pipeline)
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"Deploy {pipeline.pipeline} {VERSION}?",
            response_timeout=timedelta(hours=12),
            retries=0,  # a retry would ask anew, and hold up every other deployment for as long again
        )
        deployed = roll_out.override(outlets=[deployed_asset(pipeline)])(pipeline.pipeline, chosen)
        chosen >> ask >> [approve, deployed]
        approve >> deployed
