"""Successive halving: which configurations to try, for how long, and which go on.

Round k trains its configurations for e * keep_one_in**k epochs and passes the best one in `keep_one_in` on; e is as
large as the budget allows (Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen.artifacts import Trial
from evergreen.errors import ConfigurationError
from evergreen.pipeline import Choice, Pipeline, Search, Span, Training

if TYPE_CHECKING:
    import numpy as np

WITHOUT_EFFECT = {"max_epochs", "window_days", "validation_days", "holdout_days"}
"""Fields that change no trial: a round has epochs of its own, the training set is made before.

Trials that differ in these alone would be the same one.
"""


@dataclass(frozen=True)
class Round:
    """How many configurations train for how many epochs each."""

    configurations: int
    epochs: int


def plan_rounds(search: Search) -> list[Round]:
    """The rounds, whose epochs sum to the budget or less."""
    times = [search.keep_one_in**k for k in range(len(search.sizes))]
    first = search.budget_epochs // sum(size * time for size, time in zip(search.sizes, times, strict=True))
    return [Round(size, first * time) for size, time in zip(search.sizes, times, strict=True)]


def draw_configurations(search: Search) -> list[dict[str, object]]:
    """`search.configurations` draws from the space, all different; the same seed gives the same ones.

    ConfigurationError when the space holds fewer. A draw that repeats an earlier one is passed over.
    """
    import numpy as np  # DAG files import this module on every parse

    _require_enough(search)
    random = np.random.default_rng(search.seed)
    drawn: dict[tuple[object, ...], dict[str, object]] = {}
    while len(drawn) < search.configurations:
        one = {name: _draw(name, values, random) for name, values in sorted(search.space.items())}
        drawn.setdefault(tuple(value for name, value in one.items() if name not in WITHOUT_EFFECT), one)
    return list(drawn.values())


def best_first(trials: Sequence[Trial]) -> list[Trial]:
    """`trials` by average precision, the best first; equals stay in order."""
    return sorted(trials, key=lambda trial: -trial.average_precision)


def survivors(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """The best one in `keep_one_in` of a round, at least one."""
    return best_first(trials)[: -(-len(trials) // search.keep_one_in)]


def configured(pipeline: Pipeline, configuration: dict[str, Any], *, epochs: int | None = None) -> Pipeline:
    """`pipeline` with `configuration` in its training section, and no more than `epochs` where given."""
    changed = pipeline.training.model_dump() | configuration | ({"max_epochs": epochs} if epochs else {})
    return pipeline.model_copy(update={"training": Training.model_validate(changed)})


def _require_enough(search: Search) -> None:
    held = math.prod(_num_values(name, values) for name, values in search.space.items() if name not in WITHOUT_EFFECT)
    if held < search.configurations:
        raise ConfigurationError(
            "search.configurations",
            found=f"{search.configurations} to be drawn from a space of {held}",
            wanted="at least as many different ones in search.space",
            remedy="Lower it, and budget_epochs with it, or give search.space more values that change a trial.",
        )


def _num_values(name: str, values: Choice | Span) -> float:
    """How many different values `_draw` can give."""
    if isinstance(values, Choice):
        return len(set(values.choices))
    if not _is_whole(name):
        return math.inf
    return math.ceil(values.high - 0.5) - math.floor(values.low + 0.5) + 1


def _is_whole(name: str) -> bool:
    return Training.model_fields[name].annotation is int


def _draw(name: str, values: Choice | Span, random: np.random.Generator) -> object:
    if isinstance(values, Choice):
        return values.choices[int(random.integers(len(values.choices)))]
    if values.log:
        drawn = math.exp(random.uniform(math.log(values.low), math.log(values.high)))
    else:
        drawn = random.uniform(values.low, values.high)
    return round(drawn) if _is_whole(name) else drawn
