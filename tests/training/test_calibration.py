"""Calibrated scores are right on average and keep their order."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.training.calibration import FLATTEST, fit_calibration


def _draw(slope: float, intercept: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 200_000)
    return logits, (rng.random(logits.size) < 1 / (1 + np.exp(-slope * logits - intercept))).astype(np.float32)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, -4.0), (1.8, -7.0)])
def test_slope_and_intercept_are_found_again(slope: float, intercept: float) -> None:
    found = fit_calibration(*_draw(slope, intercept))
    assert (found.slope, found.intercept) == (pytest.approx(slope, rel=0.05), pytest.approx(intercept, abs=0.15))


def test_mean_probability_is_the_rate_of_positives() -> None:
    logits, labels = _draw(0.7, -5.0)
    probabilities = fit_calibration(logits, labels).probability(logits)
    assert probabilities.mean() == pytest.approx(labels.mean(), rel=1e-5)


def test_order_is_kept_even_where_scores_are_worse_than_chance() -> None:
    logits, labels = _draw(-1.0, -3.0)
    found = fit_calibration(logits, labels)
    assert found.slope == FLATTEST
    assert found.probability(logits).mean() == pytest.approx(labels.mean(), rel=1e-5)


def test_separated_classes_give_finite_numbers() -> None:
    found = fit_calibration(np.array([-50.0, -40, 40, 50]), np.array([0, 0, 1, 1], np.float32))
    assert np.isfinite([found.slope, found.intercept]).all()
    assert found.probability(np.array([-50.0])) < 0.1 < 0.9 < found.probability(np.array([50.0]))
