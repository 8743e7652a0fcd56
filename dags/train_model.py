"""Train a model as of a day: training set -> pod -> evaluation pod -> gate -> register. One DAG a pipeline."""

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup

from evergreen.orchestration.pipelines import pipelines
from evergreen.orchestration.pods import RUN_TYPE, pod_step, receipt_of
from evergreen.orchestration.profiles import profile_names
from evergreen.orchestration.schedule import DEFAULT_ARGS, NIGHTLY, day_param, model_asset
from evergreen.orchestration.search_tasks import CHOSEN, search
from evergreen.orchestration.train_tasks import (
    build_training_set,
    choose_champion,
    judge_model,
    publish_model,
    wait_for_features,
)

for pipeline in pipelines():
    with DAG(
        dag_id=f"{pipeline.pipeline}.train_model",
        schedule=NIGHTLY,
        catchup=False,
        max_active_runs=1,  # each is judged against what the one before brought to serve
        dagrun_timeout=timedelta(days=7),  # the last resort: every task has a limit, pods that of their profile
        default_args=DEFAULT_ARGS | {"owner": pipeline.owner},
        tags=["evergreen", pipeline.pipeline],
        params={
            "day": day_param("As-of day (UTC)", "The model sees what was known when this day ended. Empty: yesterday."),
            "window_days": Param(
                None, type=["null", "integer"], minimum=1, title="Training days", description="Empty: the spec's."
            ),
            "seed": Param(None, type=["null", "integer"], minimum=0, title="Seed", description="Empty: the spec's."),
            "profile": Param(
                None,
                enum=[None, *profile_names()],
                values_display={"null": "the spec's"},
                title="Resource profile",
                description="What the pods get.",
            ),
            "fresh": Param(
                False, type="boolean", title="Train again", description="Even if no input, spec or code changed."
            ),
            "force": Param(
                False, type="boolean", title="Deploy even if refused", description="For emergencies; it is recorded."
            ),
        },
        doc_md=f"""### {pipeline.purpose}
Learns from history as it was known at the end of the as-of day, never later. An approved model is deployed by
`{pipeline.pipeline}.deploy_model`; a backfill registers one model a day and deploys none.""",
    ):
        ready = wait_for_features(pipeline.pipeline)
        training_set = build_training_set(pipeline.pipeline)
        with TaskGroup("candidate", prefix_group_id=False):
            train = pod_step(
                pipeline,
                "train",
                inputs=[receipt_of("build_training_set"), *([receipt_of(CHOSEN)] if pipeline.search else [])],
                options=[
                    "--seed",
                    "{{ '' if params.seed is none else params.seed }}",
                    "--run-type",
                    RUN_TYPE,
                    "--fresh",
                    "{{ params.fresh }}",
                ],
            )
            champion = choose_champion(pipeline.pipeline)
            evaluate = pod_step(
                pipeline,
                "evaluate",
                inputs=[receipt_of("build_training_set"), receipt_of("choose_champion"), receipt_of("train")],
                options=["--fresh", "{{ params.fresh }}"],
            )
        judged = judge_model(pipeline.pipeline)
        published = publish_model.override(outlets=[model_asset(pipeline)])(pipeline.pipeline, judged)
        if pipeline.search:
            training_set >> search(pipeline, pipeline.search) >> train
        # The champion is looked up once training has ended, hours after the run began.
        ready >> training_set >> train >> champion >> evaluate >> judged
