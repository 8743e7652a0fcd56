"""The task that runs a training or evaluation step as a pod; what the pod is, pod_spec.py says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from evergreen.orchestration.pod_care import INSTALLATION, TASK_ANNOTATIONS, PodCare, delete_pods, installation
from evergreen.orchestration.pod_retries import HALVINGS, RETRIES, PodRetries
from evergreen.orchestration.pod_spec import pod_arguments, profile_arguments
from evergreen.orchestration.profiles import Profile, read_profile
from evergreen.orchestration.proof import RECEIPT, SPEC, require_pod_receipt
from evergreen.pipeline import Pipeline, Training
from evergreen.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import XComArg
    from airflow.sdk.definitions.mappedoperator import MappedOperator

RUN_TYPE = "{{ 'backfill' if dag_run.run_type == 'backfill' else 'ordinary' }}"
"""Template that tells a step whether its run may move production; the type itself renders as an enum's name."""
IDENTITY = ("evergreen/pipeline", "evergreen/step", INSTALLATION)
"""Labels that stay when another profile is chosen."""
MAPPED_TASK = "{{ ti.task_id }}.{{ ti.map_index }}"
"""Template of a mapped task's name on its receipt; the same as in `proof.identity`."""
STEP = ("python", "-m", "evergreen.step")
TRAINING = ("train", "try")
"""Steps that another framework may do; evaluation reads the ONNX graph alone."""
FEWEST_ROWS = 32
"""Micro-batches get no smaller than this: what does not fit then is not the rows."""
FINISHING = timedelta(minutes=15)
"""What a pod may take beyond its deadline until its task lets go of it."""


def pod_step(
    pipeline: Pipeline, step: str, *, inputs: Sequence[str], options: Sequence[str] = ()
) -> KubernetesPodOperator:
    """The task `step` of a pipeline as a pod of the trainer image; green only with its receipt.

    `inputs` are templates of upstream receipts' paths. Nothing secret is in the pod's arguments.
    """
    return KubernetesPodOperator(
        task_id=step,
        arguments=[*_identity("{{ ti.task_id }}"), *_repeated("--inputs", inputs), *options],
        **_step_arguments(pipeline, step),
    )


def pod_steps(
    pipeline: Pipeline, step: str, task_id: str, *, inputs: Sequence[str], options: XComArg
) -> MappedOperator:
    """The task `task_id` as one pod of `step` for each list of words in `options`, each with a receipt of its own.

    The command alone is a template here: Airflow does not render what comes from another task.
    """
    arguments = _step_arguments(pipeline, step)
    arguments["cmds"] += [*_identity(MAPPED_TASK), *_repeated("--inputs", inputs)]
    return KubernetesPodOperator.partial(task_id=task_id, **arguments).expand(arguments=options)


def _step_arguments(pipeline: Pipeline, step: str) -> dict[str, Any]:
    """What every pod of `step` has, whatever it is told."""
    settings = Settings.from_environment()
    labels = dict(zip(IDENTITY, (pipeline.pipeline, step, installation(settings.lake_url)), strict=True))
    resources = read_profile(pipeline.training.profile)
    return {
        "name": f"{pipeline.pipeline}-{step}".replace("_", "-"),
        "cmds": [*_command(pipeline.training, step), step],
        "do_xcom_push": False,
        "log_pod_spec_on_failure": False,
        "termination_message_policy": "FallbackToLogsOnError",
        "on_finish_action": "delete_pod",
        "on_kill_action": "delete_pod",
        "startup_check_interval_seconds": 1,
        "base_container_status_polling_interval": 0.5,
        "termination_grace_period": 30,
        "durable": True,
        "annotations": TASK_ANNOTATIONS,
        "callbacks": PodCare,
        "retries": RETRIES,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": False,
        "retry_policy": PodRetries(halvings=_halvings(pipeline.training) if step in TRAINING else 0),
        "pre_execute": use_chosen_profile,
        "post_execute": require_pod_receipt,
        "on_failure_callback": delete_pods,
        "execution_timeout": _time_limit(resources),
        "pool": "gpu",
        **pod_arguments(settings, resources, labels),
        **_own_image(pipeline.training, step),
    }


def receipt_of(task_id: str) -> str:
    """Template of the path of an upstream task's receipt."""
    return f"{{{{ ti.xcom_pull(task_ids='{task_id}', key='{RECEIPT}') }}}}"


def use_chosen_profile(context: Mapping[str, Any]) -> None:
    """Gives the pod the resource profile of the trigger form, when one was chosen there."""
    chosen = context["params"].get("profile")
    if chosen:
        task, profile = context["task"], read_profile(chosen)
        labels = {name: task.labels[name] for name in IDENTITY}
        for name, value in profile_arguments(Settings.from_environment(), profile, labels).items():
            setattr(task, name, value)
        task.execution_timeout = _time_limit(profile)


def _command(training: Training, step: str) -> tuple[str, ...]:
    return training.command if step in TRAINING else STEP


def _own_image(training: Training, step: str) -> dict[str, str]:
    return {"image": training.image} if training.image and step in TRAINING else {}


def _time_limit(profile: Profile) -> timedelta:
    """How long one try may take in all: waiting for a node, starting, and the pod's own deadline."""
    return timedelta(seconds=2 * profile.schedule_timeout_seconds + profile.deadline_seconds) + FINISHING


def _halvings(training: Training) -> int:
    """How often the micro-batch may be halved."""
    rows = training.micro_batch_rows or training.batch_rows
    return min(HALVINGS, max(0, (rows // FEWEST_ROWS).bit_length() - 1))


def _identity(task: str) -> list[str]:
    return [
        "--pipeline", f"{{{{ ti.xcom_pull(task_ids='build_training_set', key='{SPEC}') }}}}",
        "--run", "{{ ti.dag_id }}.{{ run_id }}",
        "--task", task,
        "--attempt", "{{ ti.try_number }}",
    ]  # fmt: skip


def _repeated(flag: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (flag, value)]
