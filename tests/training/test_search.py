"""Successive halving: rounds within the budget, draws that repeat, the best going on."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from evergreen.artifacts import Model, Trial
from evergreen.errors import ConfigurationError
from evergreen.pipeline import Pipeline, Search
from evergreen.training.search import Round, best_first, configured, draw_configurations, plan_rounds, survivors

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "hidden": {"choices": [[32], [64, 64]]}}


def _search(**changes: object) -> Search:
    return Search.model_validate({"configurations": 9, "budget_epochs": 54, "space": SPACE} | changes)


def _trial(name: str, average_precision: float) -> Trial:
    model = Model(
        pipeline="p",
        version=name,
        as_of=datetime(2026, 11, 1, tzinfo=UTC),
        digest="d",
        uri="u",
        training_set="t",
        seed=1,
    )
    return Trial(configuration={"hidden": name}, epochs=1, average_precision=average_precision, model=model)


def test_nine_configurations_keeping_one_in_three_take_two_rounds() -> None:
    assert plan_rounds(_search()) == [Round(9, 3), Round(3, 9)]


@pytest.mark.parametrize("configurations", [2, 3, 10, 27, 50])
@pytest.mark.parametrize("keep_one_in", [2, 3, 5])
def test_rounds_stay_within_the_budget(configurations: int, keep_one_in: int) -> None:
    search = _search(configurations=configurations, keep_one_in=keep_one_in, budget_epochs=2000)
    spent = sum(r.configurations * r.epochs for r in plan_rounds(search))
    assert 1000 <= spent <= 2000


def test_budget_too_small_for_one_epoch_each_is_refused() -> None:
    with pytest.raises(ValidationError, match="take 18 epochs"):
        _search(budget_epochs=17)


def test_draws_repeat_with_the_seed_and_stay_in_the_space() -> None:
    drawn = draw_configurations(_search())
    assert drawn == draw_configurations(_search())
    assert drawn != draw_configurations(_search(seed=8))
    assert all(1e-4 <= float(str(c["learning_rate"])) <= 1e-2 and c["hidden"] in ((32,), (64, 64)) for c in drawn)


def test_whole_numbers_are_drawn_for_whole_fields() -> None:
    drawn = draw_configurations(_search(space={"batch_rows": {"low": 64, "high": 512}}))
    assert all(isinstance(c["batch_rows"], int) for c in drawn)


@pytest.mark.parametrize(
    ("space", "held"),
    [
        ({"hidden": {"choices": [[8], [16], [32]]}, "members": {"choices": [1, 2]}}, 6),
        ({"tree_leaves": {"low": 5, "high": 8}}, 4),
        ({"tree_leaves": {"low": 4.6, "high": 8.4, "log": True}}, 4),
        ({"patience": {"choices": [2, 3, 3, 2]}}, 2),
        ({"patience": {"choices": [2, 3]}, "window_days": {"choices": [14, 21]}}, 2),
        ({"patience": {"choices": [2, 3]}, "max_epochs": {"choices": [4, 5]}}, 2),
    ],
)
def test_configurations_differ_and_more_than_there_are_is_refused(space: dict[str, object], held: int) -> None:
    deciding = space.keys() - {"window_days", "max_epochs"}
    drawn = draw_configurations(_search(space=space, configurations=held))
    assert len({tuple(c[name] for name in deciding) for c in drawn}) == len(drawn) == held
    with pytest.raises(ConfigurationError, match=f"{held + 1} to be drawn from a space of {held}, .* Lower it"):
        draw_configurations(_search(space=space, configurations=held + 1))


def test_passing_repeats_over_changes_no_other_draw() -> None:
    drawn = draw_configurations(_search(space={"patience": {"choices": [2, 3, 4, 5]}}, configurations=3))
    random = np.random.default_rng(Search.model_fields["seed"].default)
    repeated = [2 + int(random.integers(4)) for _ in range(20)]
    assert [c["patience"] for c in drawn] == list(dict.fromkeys(repeated))[:3]


def test_the_best_third_goes_on_and_ties_keep_their_order() -> None:
    trials = [_trial("a", 0.1), _trial("b", 0.4), _trial("c", 0.4), _trial("d", 0.2)]
    assert [t.model.version for t in survivors(_search(), trials)] == ["b", "c"]
    assert [t.model.version for t in best_first(trials)] == ["b", "c", "d", "a"]


def test_configuration_changes_the_training_section_alone(fraud: Pipeline) -> None:
    changed = configured(fraud, {"learning_rate": 0.5}, epochs=3)
    assert (changed.training.learning_rate, changed.training.max_epochs) == (0.5, 3)
    assert changed.model_copy(update={"training": fraud.training}) == fraud


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning_rate": {"low": 1, "high": 0.5}}, "no span"),
        ({"learning_rte": {"choices": [1]}}, "not declared"),
        ({"dropout": {"low": 0.5, "high": 2}}, "less than 1"),
        ({"micro_batch_rows": {"low": 32, "high": 256}}, "search.space.micro_batch_rows: it changes no trial"),
    ],
)
def test_space_outside_what_training_takes_is_refused(fraud: Pipeline, space: dict[str, object], said: str) -> None:
    search = {"configurations": 2, "budget_epochs": 9, "space": space}
    with pytest.raises(ValidationError, match=said):
        Pipeline.model_validate(fraud.model_dump() | {"search": search})
