"""How far back the features of a training set could look."""

from __future__ import annotations

from datetime import date

import pytest

from evergreen.artifacts import TableDay
from evergreen.features.definitions import feature_digests
from evergreen.lake.lake import start_of
from evergreen.lake.tables import days_between
from evergreen.monitoring.training_folder import TrainingFolder
from evergreen.pipeline import Pipeline

TRAIN = (date(2026, 10, 10), date(2026, 10, 20))


def _built(first: date, last: date, *, without: int | None = None, digest: str = "as it was") -> list[TableDay]:
    """Days of features there are now, one of October missing."""
    return [
        TableDay(zone="features", pipeline="fraud", day=day, rows=1, digest=digest, version=1)
        for day in days_between(first, last)
        if day.day != without
    ]


def _folder(*, without: int | None = None) -> TrainingFolder:
    """A set cut from the days of TRAIN, one of October missing."""
    days = _built(*TRAIN, without=without)
    return TrainingFolder(
        numeric=("amount",),
        categorical=(),
        train_days=TRAIN,
        holdout_days=(date(2026, 10, 23), date(2026, 10, 24)),
        features={day.day: day.digest for day in days},
        parts={},
    )


@pytest.mark.parametrize(
    ("folder", "built", "begins"),
    [
        pytest.param(_folder(), _built(date(2026, 10, 1), TRAIN[1]), 1, id="no gap"),
        pytest.param(_folder(), _built(date(2026, 10, 1), TRAIN[1], without=7), 8, id="gap before"),
        pytest.param(_folder(), _built(date(2026, 10, 1), TRAIN[1], without=9), 10, id="gap right before"),
        pytest.param(_folder(without=15), _built(date(2026, 10, 1), TRAIN[1], without=15), 16, id="gap inside"),
        pytest.param(_folder(without=15), _built(date(2026, 10, 1), TRAIN[1]), 16, id="gap inside, filled since"),
        pytest.param(_folder(), _built(date(2026, 10, 1), TRAIN[1], digest="rebuilt"), 10, id="first day rebuilt"),
        pytest.param(_folder(), [], 10, id="features gone"),
    ],
)
def test_history_begins_after_the_last_gap_up_to_the_end_of_training(
    folder: TrainingFolder, built: list[TableDay], begins: int
) -> None:
    assert folder.history_from(built) == start_of(date(2026, 10, begins))


def _taught(pipeline: Pipeline, **more: object) -> TrainingFolder:
    """A set of the pipeline's features."""
    features = pipeline.features
    return _folder().model_copy(update={"numeric": features.numeric, "categorical": features.categorical, **more})


def _with_longer_sums(pipeline: Pipeline) -> Pipeline:
    windows = pipeline.features.windows
    longer = windows | {"card_sum_1h": windows["card_sum_1h"].model_copy(update={"over": "7d"})}
    return pipeline.model_copy(update={"features": pipeline.features.model_copy(update={"windows": longer})})


def test_redefined_feature_is_not_shared_and_lacking(fraud: Pipeline) -> None:
    folder = _taught(fraud, definitions=feature_digests(fraud))
    now = _with_longer_sums(fraud)
    assert folder.redefined(now) == {"card_sum_1h"}
    assert "card_sum_1h" not in folder.shared(now)
    assert folder.lacking(now) == ("card_sum_1h",)
    assert folder.redefined(fraud) == set()
    assert folder.lacking(fraud) == ()


def test_set_that_does_not_say_its_definitions_shares_every_name(fraud: Pipeline) -> None:
    folder = _taught(fraud)
    assert folder.redefined(_with_longer_sums(fraud)) == set()
    assert folder.lacking(_with_longer_sums(fraud)) == ()
