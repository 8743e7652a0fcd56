"""Failures of pods, one small record a try, kept in the lake: evidence for people, and what retries count.

failures/<pipeline>/<dag_run>/<task>/<try>.json
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from evergreen.orchestration.pod_diagnosis import Action, Cause
from evergreen.orchestration.proof import identity, pipeline_of

if TYPE_CHECKING:  # DAG files import this module on every parse
    from evergreen.lake.lake import Lake


class Failure(BaseModel):
    """Why one try of a pod's task failed, and what was decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    run: str
    task: str
    attempt: int
    at: datetime
    pod: str | None
    cause: Cause
    action: Action
    """What was done next; `fail` also when a budget was used up."""
    sentence: str
    remedy: str


def record_failure(lake: Lake, failure: Failure) -> str:
    """The path at which `failure` now lies."""
    path = f"{_folder(failure.pipeline, failure.run, failure.task)}/{failure.attempt}.json"
    lake.objects.put(path, failure.model_dump_json(indent=2).encode())
    return path


def failures_since(lake: Lake, context: Mapping[str, Any], first_attempt: int) -> list[Failure]:
    """Failures of the running task's earlier tries, from `first_attempt` on, oldest first."""
    who = identity(context)
    folder = _folder(pipeline_of(context), who["run"], who["task"])
    found = [Failure.model_validate_json(lake.objects.get(path)) for path in lake.objects.list(folder)]
    earlier = [failure for failure in found if first_attempt <= failure.attempt < who["attempt"]]
    return sorted(earlier, key=lambda failure: failure.attempt)


def _folder(pipeline: str, run: str, task: str) -> str:
    from evergreen.lake.receipts import receipt_path

    beside = receipt_path(pipeline, run, task, 0).rpartition("/")[0]
    return beside.replace("receipts/", "failures/", 1)
