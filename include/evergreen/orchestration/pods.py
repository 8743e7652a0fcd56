"""Composes the pod of a training or evaluation step, in one place, from a resource profile."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import RetryDecision, RetryPolicy
from kubernetes.client import models as k8s

from evergreen.errors import EXIT_MEANING, OutOfMemory, TemporaryError
from evergreen.orchestration.profiles import Profile, read_profile
from evergreen.orchestration.proof import RECEIPT, require_pod_receipt
from evergreen.pipeline import Pipeline
from evergreen.settings import Settings

RUN_TYPE = "{{ 'backfill' if dag_run.run_type == 'backfill' else 'ordinary' }}"
"""Template that tells a step whether its run may move production; the type itself renders as an enum's name."""
EXIT_LINE = re.compile(r"exit (\d+) \(")
"""The last line of a step that failed on purpose; the pod's termination message carries it here."""
LAKE_SECRET = "evergreen-lake"  # noqa: S105
"""Secret of the pods' namespace with the object store's credentials as variables; absent on a laptop."""


def pod_step(
    pipeline: Pipeline, step: str, *, inputs: Sequence[str], options: Sequence[str] = (), profile: str | None = None
) -> KubernetesPodOperator:
    """The task `step` of a pipeline as a pod of the trainer image; green only with its receipt.

    `inputs` are templates of upstream receipts' paths. Nothing secret is in the pod's arguments.
    """
    settings = Settings.from_environment()
    resources = read_profile(profile or pipeline.training.profile)
    return KubernetesPodOperator(
        task_id=step,
        name=f"{pipeline.pipeline}-{step}".replace("_", "-"),
        namespace=settings.namespace,
        service_account_name=settings.service_account,
        image=settings.trainer_image,
        cmds=["python", "-m", "evergreen.step", step],
        arguments=[*_identity(pipeline), *_repeated("--inputs", inputs), *options],
        env_vars=_environment(settings),
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=LAKE_SECRET, optional=True))],
        labels={"evergreen/pipeline": pipeline.pipeline, "evergreen/step": step},
        config_file=str(settings.kubeconfig) if settings.kubeconfig else None,
        in_cluster=settings.kubeconfig is None,
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
        **_resources(resources),
    )


def receipt_of(task_id: str) -> str:
    """Template of the path of an upstream task's receipt."""
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}', key='{RECEIPT}') }}}}"


def use_chosen_profile(context: Mapping[str, Any]) -> None:
    """Gives the pod the resource profile of the trigger form, when one was chosen there."""
    chosen = context["params"].get("profile")
    if chosen:
        for name, value in _resources(read_profile(chosen)).items():
            setattr(context["task"], name, value)


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


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "EVERGREEN_LAKE_URL": settings.lake_url,
        "EVERGREEN_TRAINER_IMAGE": settings.trainer_image,
        "EVERGREEN_CODE_VERSION": settings.code_version,
        "OMP_WAIT_POLICY": "passive",
    }


def _resources(profile: Profile) -> dict[str, Any]:
    return {
        "container_resources": k8s.V1ResourceRequirements(requests=profile.requests, limits=profile.limits),
        "node_selector": profile.node_selector,
        "tolerations": [k8s.V1Toleration(**toleration) for toleration in profile.tolerations],
        "priority_class_name": profile.priority_class,
        "schedule_timeout_seconds": profile.schedule_timeout_seconds,
        "startup_timeout_seconds": profile.schedule_timeout_seconds,
        "active_deadline_seconds": profile.deadline_seconds,
        "deferrable": profile.deferrable,
        "poll_interval": 2,
        "logging_interval": 5,
    }
