"""Which champions have already learned from the days they are to be judged on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import IntegrityError
from evergreen.evaluation.overlap import saw_holdout
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

Store = Callable[..., TrainingSet]
Make = Callable[..., Model]


@pytest.mark.parametrize(
    ("days_later", "saw"), [(-3, False), (0, False), (1, True), (2, True), (15, True), (16, False)]
)
def test_training_and_validation_days_of_the_champion_are_looked_up(
    days_later: int, saw: bool, lake: Lake, fraud: Pipeline, store: Store, make_model: Make
) -> None:
    learned_from = store(lake, days_later=days_later)
    champion = make_model(lake, fraud, training_set=learned_from.digest, as_of=learned_from.as_of)
    assert saw_holdout(champion, store(lake), lake) is saw


@pytest.mark.parametrize(("days_later", "saw"), [(-1, False), (0, False), (1, True)])
def test_champion_without_its_training_set_is_told_by_its_as_of(
    days_later: int, saw: bool, lake: Lake, fraud: Pipeline, store: Store, make_model: Make
) -> None:
    training_set = store(lake)
    as_of = training_set.as_of + timedelta(days=days_later)
    champion = make_model(lake, fraud, as_of=as_of, training_set="f" * 64)
    assert saw_holdout(champion, training_set, lake) is saw


def test_altered_manifest_is_refused(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    learned_from = store(lake, days_later=2)
    path = f"{learned_from.uri}/manifest.json"
    lake.objects.put(path, lake.objects.get(path).replace(b"2026-11-03", b"2026-11-30"))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        saw_holdout(make_model(lake, fraud, training_set=learned_from.digest), store(lake), lake)
