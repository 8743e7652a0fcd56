"""What every training took, from its receipt: receipts only grow in number, so each is read once and noted here.

trainings/<pipeline>.json     path of each receipt of training -> its run, start and seconds
"""

from __future__ import annotations

import logging
from datetime import datetime

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from evergreen.artifacts import Receipt
from evergreen.lake.lake import Lake

logger = logging.getLogger(__name__)

TRAINING_TASK = "train"
TRIALS = "try_round_"
"""How the tasks of a search begin; each mapped one is named try_round_<round>.<index>."""
REPLAYS = "replay."
"""How the runs of `evergreen replay` begin; those of Airflow begin with the name of the pipeline."""


class Training(BaseModel):
    """One try of training, or of a trial of a search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    started_at: datetime
    seconds: float


NOTE = TypeAdapter(dict[str, Training])


def trainings(pipeline: str, lake: Lake) -> list[Training]:
    """Every try of training that left a receipt, trials of a search too, replays not; in the order of the paths."""
    noted = _noted(pipeline, lake)
    paths = [path for path in lake.objects.list(f"receipts/{pipeline}") if _is_training(path, pipeline)]
    found = {path: noted.get(path) or _read(path, lake) for path in paths}
    if found != noted:
        lake.objects.put(_path(pipeline), NOTE.dump_json(found))
    return list(found.values())


def _noted(pipeline: str, lake: Lake) -> dict[str, Training]:
    path = _path(pipeline)
    if not lake.objects.exists(path):
        return {}
    try:
        return NOTE.validate_json(lake.objects.get(path))
    except ValidationError as error:
        logger.warning("%s cannot be read (%d errors) and is made again", path, error.error_count())
        return {}


def _read(path: str, lake: Lake) -> Training:
    receipt = Receipt.from_json(lake.objects.get(path))
    return Training(run=receipt.run, started_at=receipt.started_at, seconds=receipt.seconds)


def _is_training(path: str, pipeline: str) -> bool:
    """Whether receipts/<pipeline>/<run>/<task>/<try>.json is of training or a trial, whatever groups it is in."""
    *_, run, task, _ = path.split("/")
    replayed = run.startswith(REPLAYS) and not run.startswith(f"{pipeline}.")
    return not replayed and any(name == TRAINING_TASK or name.startswith(TRIALS) for name in task.split("."))


def _path(pipeline: str) -> str:
    return f"trainings/{pipeline}.json"
