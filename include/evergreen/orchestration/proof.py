"""A task under a receipt: what it may use, and the proof without which it is not green."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from evergreen.artifacts import Artifact, Receipt
from evergreen.errors import ConfigurationError, EvergreenError
from evergreen.orchestration.pipelines import pipeline_named
from evergreen.orchestration.schedule import resolve_day
from evergreen.pipeline import Pipeline
from evergreen.provenance import code_digest, environment, hardware
from evergreen.settings import Settings

if TYPE_CHECKING:  # DAG files import this module on every parse; Arrow and SQLAlchemy are for tasks alone
    from evergreen.lake.lake import Lake
    from evergreen.ledger.ledger import Ledger

logger = logging.getLogger(__name__)
A = TypeVar("A", bound=Artifact)
RECEIPT = "receipt"
"""XCom key under which every task, pod or not, leaves its receipt's path."""
SPEC = "spec"
"""XCom key under which `build_training_set` leaves the path of the spec that its run began with."""
Proven = dict[str, Any]
"""What travels by XCom: the receipt's path and the artifacts by class name."""


@dataclass
class Stage:
    """One try of one task: its pipeline, lake, ledger and day, and the receipt it ends with."""

    pipeline: Pipeline
    settings: Settings
    context: Mapping[str, Any]
    started_at: datetime
    started: float
    inputs: tuple[str, ...] = ()
    """Paths of the upstream receipts this task builds on."""

    @cached_property
    def lake(self) -> Lake:
        return open_lake()

    @cached_property
    def ledger(self) -> Ledger:
        from evergreen.ledger.ledger import Ledger

        return Ledger(self.settings.database_url)

    @cached_property
    def day(self) -> date:
        return resolve_day(self.context)

    @property
    def params(self) -> Mapping[str, Any]:
        return self.context["params"]  # type: ignore[no-any-return]

    @property
    def is_backfill(self) -> bool:
        return is_backfill(self.context)

    def anchor(self) -> None:
        """Moves the ledger's anchor in the lake to its present heads; call it after appending."""
        from evergreen.ledger.anchor import write_anchor

        write_anchor(self.ledger, self.lake)

    def finish(self, *artifacts: Artifact, **more: Artifact) -> Proven:
        """XCom value naming the receipt just written; every output it lists was verified first."""
        from evergreen.lake.outputs import objects_of, tables_of
        from evergreen.lake.receipts import require_receipt, write_receipt

        named = {type(a).__name__: a for a in artifacts} | more
        receipt = Receipt(
            pipeline=self.pipeline.pipeline,
            **identity(self.context),
            inputs={path: self.lake.objects.digest(path) for path in self.inputs},
            tables=tuple(t for a in artifacts for t in tables_of(a)),
            objects=tuple(o for a in artifacts for o in objects_of(a, self.lake)),
            result={name: artifact.model_dump(mode="json") for name, artifact in named.items()},
            spec_digest=self.pipeline.digest,
            code_version=self.settings.code_version,
            code_digest=code_digest(),
            environment=dict(environment()),
            hardware=hardware(),
            started_at=self.started_at,
            seconds=time.monotonic() - self.started,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        )
        path = write_receipt(self.lake, receipt)
        require_receipt(self.lake, receipt.pipeline, receipt.run, receipt.task, receipt.attempt)
        logger.info("Receipt %s: %d tables, %d objects", path, len(receipt.tables), len(receipt.objects))
        _announce(self.context, path)
        return {"receipt": path, "result": receipt.result}


@contextmanager
def proof(pipeline: str, *inputs: Proven) -> Iterator[Stage]:
    """The stage of the running task. An error that no retry can mend fails the task at once."""
    try:
        yield Stage(
            pipeline=pipeline_named(pipeline),
            settings=Settings.from_environment(),
            context=get_current_context(),
            started_at=datetime.now(UTC),
            started=time.monotonic(),
            inputs=tuple(_path(value["receipt"] if value else None) for value in inputs),
        )
    except EvergreenError as error:
        if error.details:
            logger.error("%s", error.details)
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


def taken(value: Proven, kind: type[A], name: str | None = None) -> A:
    """The artifact of `kind` that an upstream task finished with."""
    return kind.model_validate(value["result"][name or kind.__name__])


def identity(context: Mapping[str, Any]) -> dict[str, Any]:
    """Run, task and attempt of the running try, as receipts name them; a mapped task's name ends with its index."""
    instance = context["ti"]
    task = instance.task_id if instance.map_index < 0 else f"{instance.task_id}.{instance.map_index}"
    return {"run": f"{instance.dag_id}.{instance.run_id}", "task": task, "attempt": instance.try_number}


def is_backfill(context: Mapping[str, Any]) -> bool:
    """Whether the run belongs to a backfill, which may never move production."""
    return str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type)) == "backfill"


def require_pod_receipt(context: Mapping[str, Any], result: Any = None) -> None:
    """Nothing, when the pod this try waited for left a receipt whose outputs verify; otherwise the task fails.

    Given to KubernetesPodOperator as `post_execute`, so that exit code 0 alone is never green. A pod that was taken
    over from a try whose worker died proves itself under the number of that try, which its label tells. A worker that
    is asked to stop takes its pod along: that is no proof of anything, and `PodRetries` resumes.
    """
    from evergreen.lake.receipts import receipt_path, require_receipt

    who = identity(context) | {"attempt": _attempt_of_pod(context)}
    pipeline = pipeline_of(context)
    try:
        receipt = require_receipt(open_lake(), pipeline, **who)
    except EvergreenError as error:
        if error.retryable or was_stopped(context):
            raise
        raise AirflowFailException(str(error)) from error
    _announce(context, receipt_path(pipeline, **who))
    logger.info("Receipt of %s verified: %d objects", receipt.task, len(receipt.objects))


def was_stopped(context: Mapping[str, Any]) -> bool:
    """Whether this try's worker was asked to stop, on which the operator deletes its pod and just returns."""
    return bool(context["task"]._killed)


def _attempt_of_pod(context: Mapping[str, Any]) -> int:
    """The try that made the pod this try waited for; this very one when the operator no longer knows a pod."""
    pod = context["task"].pod
    return int(pod.metadata.labels["try_number"]) if pod else int(context["ti"].try_number)


def pod_result(task: str, context: Mapping[str, Any]) -> Proven:
    """What the pod task `task` of this run finished with; its outputs are verified once more."""
    return _proven(context["ti"].xcom_pull(task_ids=task, key=RECEIPT))


def pod_results(task: str, context: Mapping[str, Any]) -> list[Proven]:
    """What each pod of the mapped task `task` of this run finished with."""
    return [_proven(path) for path in context["ti"].xcom_pull(task_ids=[task], key=RECEIPT)]


def _proven(path: str | None) -> Proven:
    from evergreen.lake.receipts import verify_outputs

    receipt = Receipt.from_json(open_lake().objects.get(_path(path)))
    verify_outputs(open_lake(), receipt)
    return {"receipt": path, "result": receipt.result}


def _path(path: str | None) -> str:
    if path is None:
        raise ConfigurationError(
            "What the task before this one did",
            found="no receipt: it was marked as success by hand, or its XCom is gone",
            wanted="the proof of its work",
            remedy="Clear that task, so that it runs.",
        )
    return path


def pipeline_of(context: Mapping[str, Any]) -> str:
    """Name of the pipeline whose DAG is running."""
    return str(context["ti"].dag_id).split(".")[0]


def _announce(context: Mapping[str, Any], path: str) -> None:
    context["ti"].xcom_push(key=RECEIPT, value=path)


def open_lake() -> Lake:
    """The installation's lake."""
    from evergreen.lake.lake import Lake

    settings = Settings.from_environment()
    return Lake(settings.lake_url, settings.lake_options)
