"""Whether a champion has already learned from the days it is to be judged on."""

from __future__ import annotations

from evergreen.artifacts import Model, TrainingSet
from evergreen.evaluation.learned import Learned
from evergreen.lake.lake import Lake


def saw_holdout(champion: Model, training_set: TrainingSet, lake: Lake) -> bool:
    """Whether a training or validation day of `champion` is a holdout day of `training_set`.

    Read from the manifest of the champion's training set; where that is gone, a champion of a later as-of
    instant is taken to have seen them. IntegrityError when the manifest was altered.
    """
    learned = Learned.of(champion.pipeline, champion.training_set, lake)
    if learned is None:
        return champion.as_of > training_set.as_of
    first, last = training_set.holdout_days
    return any(days[0] <= last and first <= days[1] for days in (learned.train_days, learned.validation_days))
