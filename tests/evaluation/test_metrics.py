"""Metrics against numbers worked by hand, against brute force, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evergreen.evaluation.metrics import Calibration, Ranking, equal_mass_bins

ONE_TO_FOUR = np.ones(4)
LABELS = np.array([0, 0, 1, 1])
SCORES = np.array([0.1, 0.4, 0.35, 0.8])


def _ones(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values))


def test_average_precision_of_the_textbook_case() -> None:
    # scikit-learn's documented example: precisions 1 and 2/3, each gaining half the recall
    assert Ranking.of(LABELS, SCORES).average_precision(ONE_TO_FOUR) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_roc_auc_of_the_textbook_case() -> None:
    # scikit-learn's documented example: three of the four pairs are in order
    assert Ranking.of(LABELS, SCORES).roc_auc(ONE_TO_FOUR) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("labels", "scores", "precision", "area"),
    [
        ([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5, 0.5),
        ([1, 0, 1, 0, 0], [0.9, 0.9, 0.5, 0.5, 0.1], 0.5, (1 * (2 + 0.5) + 1 * (1 + 0.5)) / 6),
        ([0, 1, 1, 0], [0.2, 0.7, 0.7, 0.1], 1.0, 1.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.7, 0.9], 0.5 / 3 + 0.5 / 2, 0.0),
    ],
    ids=["all tied", "ties of both kinds", "perfect", "reversed"],
)
def test_ties_count_as_one_threshold(labels: list[int], scores: list[float], precision: float, area: float) -> None:
    ranking = Ranking.of(np.array(labels), np.array(scores))
    assert ranking.average_precision(np.ones(len(labels))) == pytest.approx(precision)
    assert ranking.roc_auc(np.ones(len(labels))) == pytest.approx(area)


def test_brier_is_the_mean_squared_distance() -> None:
    # scikit-learn's documented example
    calibration = Calibration.of(np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.8, 0.3]))
    assert calibration.brier(ONE_TO_FOUR) == pytest.approx(0.0375)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    scores, labels = np.array([0.1, 0.3, 0.6, 0.8]), np.array([0, 1, 1, 1])
    # two bins of two rows: |0.2 - 0.5| and |0.7 - 1.0|
    assert Calibration.of(labels, scores, num_bins=2).expected_error(ONE_TO_FOUR) == pytest.approx(0.3)
    # one bin: |0.45 - 0.75|
    assert Calibration.of(labels, scores, num_bins=1).expected_error(ONE_TO_FOUR) == pytest.approx(0.3)
    # with a weight of 3 on the second row, the first bin is |0.25 - 0.75| of 4 in 6 rows
    weighted = Calibration.of(labels, scores, num_bins=2).expected_error(np.array([1.0, 3, 1, 1]))
    assert weighted == pytest.approx(4 / 6 * 0.5 + 2 / 6 * 0.3)


def test_perfectly_calibrated_constant_has_no_error() -> None:
    labels = np.array([1] + [0] * 9)
    assert Calibration.of(labels, np.full(10, 0.1)).expected_error(np.ones(10)) == pytest.approx(0)


@pytest.mark.parametrize(("share", "wanted"), [(0.25, 0.5), (0.5, 0.5), (0.75, 1.0), (1.0, 1.0), (0.125, 0.25)])
def test_recall_at_a_budget(share: float, wanted: float) -> None:
    # in order of score: positive, negative, positive, negative
    assert Ranking.of(LABELS, SCORES).recall_at(share, ONE_TO_FOUR) == pytest.approx(wanted)


def test_budget_inside_a_tie_expects_its_share() -> None:
    # ten rows tied, two positive; three of them are looked at
    labels = np.array([1, 1] + [0] * 8)
    assert Ranking.of(labels, np.zeros(10)).recall_at(0.3, np.ones(10)) == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]], ids=["no rows", "no positives", "no negatives"])
def test_undefined_metrics_are_nan(labels: list[int]) -> None:
    values = np.array(labels)
    ranking = Ranking.of(values, np.linspace(0, 1, len(labels)))
    assert np.isnan(ranking.roc_auc(_ones(values)))
    if not values.any():
        assert np.isnan(ranking.average_precision(_ones(values)))
        assert np.isnan(ranking.recall_at(0.5, _ones(values)))


def test_empty_calibration_is_nan() -> None:
    calibration = Calibration.of(np.zeros(0), np.zeros(0))
    assert np.isnan(calibration.brier(np.zeros(0)))
    assert np.isnan(calibration.expected_error(np.zeros(0)))


def test_ranking_among_rows_is_that_of_the_rows_alone() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 50), rng.random(50)
    among = np.flatnonzero(rng.random(50) < 0.5)
    weights = rng.integers(0, 4, 50).astype(float)
    part, alone = Ranking.of(labels, scores, among), Ranking.of(labels[among], scores[among])
    assert part.average_precision(weights) == alone.average_precision(weights[among])
    assert part.roc_auc(weights) == alone.roc_auc(weights[among])


samples = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.int8, n, elements=st.integers(0, 1)),
        arrays(np.float32, n, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])),
        arrays(np.float64, n, elements=st.integers(0, 3)),
    )
)


@given(samples)
def test_weights_are_repetitions(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, weights = sample
    times = weights.astype(int)
    weighted, repeated = Ranking.of(labels, scores), Ranking.of(np.repeat(labels, times), np.repeat(scores, times))
    ones = np.ones(times.sum())
    for metric in ("average_precision", "roc_auc"):
        found, wanted = getattr(weighted, metric)(weights), getattr(repeated, metric)(ones)
        assert found == pytest.approx(wanted, nan_ok=True)
    assert weighted.recall_at(0.3, weights) == pytest.approx(repeated.recall_at(0.3, ones), nan_ok=True)


@given(samples)
def test_metrics_agree_with_brute_force(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, scores, _ = sample
    ranking, ones = Ranking.of(labels, scores), np.ones(len(labels))
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if len(positives) and len(negatives):
        ahead = positives[:, None] > negatives[None, :]
        level = positives[:, None] == negatives[None, :]
        assert ranking.roc_auc(ones) == pytest.approx(np.mean(ahead + level / 2))
    if len(positives):
        precision_there = [np.mean(labels[scores >= score]) for score in positives]
        assert ranking.average_precision(ones) == pytest.approx(np.mean(precision_there))


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)), st.integers(1, 8))
def test_bins_rise_with_the_score_and_never_part_equals(scores: np.ndarray, num_bins: int) -> None:
    bins = equal_mass_bins(scores, np.ones_like(scores), num_bins)
    assert bins.min() >= 0
    assert bins.max() < num_bins
    order = np.argsort(scores, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[scores == score])) == 1 for score in set(scores))


def test_bins_hold_equal_mass() -> None:
    assert np.bincount(equal_mass_bins(np.arange(20.0), np.ones(20), 4)).tolist() == [5, 5, 5, 5]
    # half of the mass lies in the last two of these
    assert equal_mass_bins(np.array([1.0, 2, 3, 4, 5]), np.array([1.0, 1, 1, 1, 2]), 2).tolist() == [0, 0, 0, 1, 1]
