"""Whether a champion has already learned from the days it is to be judged on."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict

from evergreen.artifacts import Model, ObjectRef, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.objects import get_verified


class LearnedDays(BaseModel):
    """First and last day, inclusive, of what a training set lets a model learn from."""

    model_config = ConfigDict(frozen=True)

    train_days: tuple[date, date]
    validation_days: tuple[date, date]


def saw_holdout(champion: Model, training_set: TrainingSet, lake: Lake) -> bool:
    """Whether a training or validation day of `champion` is a holdout day of `training_set`.

    Read from the manifest of the champion's training set; where that is gone, a champion of a later as-of
    instant is taken to have seen them. IntegrityError when the manifest was altered.
    """
    path = f"training_sets/{champion.pipeline}/{champion.training_set}/manifest.json"
    if not lake.objects.exists(path):
        return champion.as_of > training_set.as_of
    manifest = get_verified(lake.objects, ObjectRef(path=path, digest=champion.training_set))
    learned = LearnedDays.model_validate_json(manifest)
    first, last = training_set.holdout_days
    return any(days[0] <= last and first <= days[1] for days in (learned.train_days, learned.validation_days))
