"""The task that runs a training or evaluation step as a pod; what the pod is, pod_spec.py says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import RetryDecision, RetryPolicy

from evergreen.errors import EXIT_MEANING, OutOfMemory, TemporaryError
from evergreen.orchestration.pod_spec import pod_arguments, profile_arguments
from evergreen.orchestration.profiles import read_profile
from evergreen.orchestration.proof import RECEIPT, require_pod_receipt
from evergreen.pipeline import Pipeline
from evergreen.settings import Settings

RUN_TYPE = "{{ 'backfill' if dag_run.run_type == 'backfill' else 'ordinary' }}"
"""Template that tells a step whether its run may move production; the type itself renders as an enum's name."""
EXIT_LINE = re.compile(r"exit (\d+) \(")
"""The last line of a step that failed on purpose; the pod's termination message carries it here."""


def pod_step(
    pipeline: Pipeline, step: str, *, inputs: Sequence[str], options: Sequence[str] = (), profile: str | None = None
) -> KubernetesPodOperator:
    """The task `step` of a pipeline as a pod of the trainer image; green only with its receipt.

    `inputs` are templates of upstream receipts' paths. Nothing secret is in the pod's arguments.
    """
    labels = {"evergreen/pipeline": pipeline.pipeline, "evergreen/step": step}
    return KubernetesPodOperator(
        task_id=step,
        name=f"{pipeline.pipeline}-{step}".replace("_", "-"),
        cmds=["python", "-m", "evergreen.step", step],
        arguments=[*_identity(pipeline), *_repeated("--inputs", inputs), *options],
        do_xcom_push=False,
        log_pod_spec_on_failure=False,
        termination_message_policy="FallbackToLogsOnError",
        on_finish_action="delete_pod",
        on_kill_action="delete_pod",
        startup_check_interval_seconds=1,
        base_container_status_polling_interval=0.5,
        termination_grace_period=30,
        retries=3,
        retry_delay=timedelta(seconds=10),
        retry_policy=PodRetries(),
        post_execute=require_pod_receipt,
        pool="gpu",
        pre_execute=use_chosen_profile,
        **pod_arguments(Settings.from_environment(), read_profile(profile or pipeline.training.profile), labels),
    )


def receipt_of(task_id: str) -> str:
    """Template of the path of an upstream task's receipt."""
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}', key='{RECEIPT}') }}}}"


def use_chosen_profile(context: Mapping[str, Any]) -> None:
    """Gives the pod the resource profile of the trigger form, when one was chosen there."""
    chosen = context["params"].get("profile")
    if chosen:
        task = context["task"]
        identity = {name: task.labels[name] for name in ("evergreen/pipeline", "evergreen/step")}
        for name, value in profile_arguments(read_profile(chosen), identity).items():
            setattr(task, name, value)


class PodRetries(RetryPolicy):
    """Fails at once what the exit code says no retry can mend; retries the rest."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision for a failed pod, from the exit code in its last line."""
        found = EXIT_LINE.search(str(exception))
        code = int(found[1]) if found else None
        if code not in EXIT_MEANING:
            return RetryDecision.default()
        if code in (OutOfMemory.exit_code, TemporaryError.exit_code):
            return RetryDecision.retry(reason=EXIT_MEANING[code])
        return RetryDecision.fail(reason=EXIT_MEANING[code])


def _identity(pipeline: Pipeline) -> list[str]:
    return [
        "--pipeline", f"specs/{pipeline.pipeline}/{pipeline.digest}.json",
        "--run", "{{ ti.dag_id }}.{{ run_id }}",
        "--task", "{{ ti.task_id }}",
        "--attempt", "{{ ti.try_number }}",
    ]  # fmt: skip


def _repeated(flag: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (flag, value)]
