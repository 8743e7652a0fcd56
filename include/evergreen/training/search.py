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
from evergreen.pipeline import Choice, Pipeline, Search, Span, Training

if TYPE_CHECKING:
    import numpy as np


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
    """`search.configurations` draws from the space; the same seed gives the same ones."""
    import numpy as np  # DAG files import this module on every parse

    random = np.random.default_rng(search.seed)
    return [
        {name: _draw(name, values, random) for name, values in sorted(search.space.items())}
        for _ in range(search.configurations)
    ]


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


def _draw(name: str, values: Choice | Span, random: np.random.Generator) -> object:
    if isinstance(values, Choice):
        return values.choices[int(random.integers(len(values.choices)))]
    if values.log:
        drawn = math.exp(random.uniform(math.log(values.low), math.log(values.high)))
    else:
        drawn = random.uniform(values.low, values.high)
    return round(drawn) if Training.model_fields[name].annotation is int else drawn
