"""The bootstrap is repeatable, paired, right on a known case, and quick."""

from __future__ import annotations

import time

import numpy as np
import pytest

from evergreen.evaluation.bootstrap import Sampled, bootstrap
from evergreen.evaluation.metrics import Ranking


def test_same_seed_gives_the_same_bits() -> None:
    values = np.random.default_rng(0).random(500)
    statistics = {"mean": lambda w: float(np.average(values, weights=w))}
    first, again = (bootstrap(statistics, 500, seed=3)["mean"] for _ in range(2))
    other = bootstrap(statistics, 500, seed=4)["mean"]
    assert first.resampled.tobytes() == again.resampled.tobytes()
    assert first.estimate() != other.estimate()


def test_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(10, 2, 2000)
    statistics = {"mean": lambda w: float(np.average(values, weights=w))}
    estimate = bootstrap(statistics, 2000, seed=1, resamples=2000)["mean"].estimate()
    error = 1.96 * values.std() / np.sqrt(2000)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - error, abs=0.01)
    assert estimate.high == pytest.approx(values.mean() + error, abs=0.01)


def test_every_resample_draws_as_many_rows_as_there_are() -> None:
    drawn = bootstrap({"rows": lambda w: float(w.sum()), "kinds": lambda w: float((w > 0).mean())}, 1000, seed=0)
    assert set(drawn["rows"].resampled) == {1000.0}
    assert drawn["kinds"].resampled.mean() == pytest.approx(1 - np.exp(-1), abs=0.01)


def test_difference_is_paired() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(4000) < 0.05
    scores = rng.normal(size=4000) + labels
    better = scores + 0.3 * labels  # moves hardly with the sample, unlike either metric
    sampled = bootstrap(
        {"one": Ranking.of(labels, scores).average_precision, "two": Ranking.of(labels, better).average_precision},
        4000,
        seed=0,
    )
    apart = (sampled["two"] - sampled["one"]).estimate()
    one, two = sampled["one"].estimate(), sampled["two"].estimate()
    assert apart.low > 0  # although
    assert two.low < one.high
    assert apart.value == two.value - one.value


def test_undefined_resamples_are_left_out_and_an_undefined_value_has_no_estimate() -> None:
    some = Sampled(0.5, np.array([0.4, np.nan, 0.6]))
    assert some.estimate().low == pytest.approx(0.405)
    assert Sampled(float("nan"), np.array([0.4])).estimate() is None
    assert Sampled(0.5, np.array([np.nan])).estimate() is None


def test_interval_always_holds_the_value() -> None:
    estimate = Sampled(0.1, np.array([0.2, 0.3])).estimate()
    assert (estimate.low, estimate.value) == (0.1, 0.1)


def test_no_rows_draw_nothing() -> None:
    nothing = bootstrap({"ap": Ranking.of(np.zeros(0), np.zeros(0)).average_precision}, 0, seed=0)
    assert nothing["ap"].estimate() is None


def test_400_resamples_of_40000_rows_take_less_than_ten_seconds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(40_000) < 0.005
    ranking = Ranking.of(labels, rng.normal(size=40_000) + labels)
    started = time.process_time()  # the machine may be busy; what other threads use counts too
    bootstrap({"average_precision": ranking.average_precision}, 40_000, seed=0)
    assert time.process_time() - started < 10
