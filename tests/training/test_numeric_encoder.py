"""Knots hold whatever numbers come: few, many, none, constant or infinite."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from evergreen.training.numeric_encoder import QUANTILES, fit_numeric


def _column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_few_values_are_all_knots_at_their_middle_rank() -> None:
    encoder = fit_numeric(_column(1, 1, 2, 5))
    assert encoder.lower.tolist() == [[1, 2]]
    assert encoder.inverse.tolist() == [[1, pytest.approx(1 / 3)]]
    ranks = [NormalDist().inv_cdf(share) for share in (0.25, 0.625, 0.875)]
    assert encoder.offset == pytest.approx(ranks[:1])
    assert encoder.steps[0] == pytest.approx(np.diff(ranks))


def test_many_values_are_cut_at_quantiles() -> None:
    values = np.random.default_rng(0).lognormal(0, 2, 50_000).astype(np.float32)
    encoder = fit_numeric(values[:, None])
    assert encoder.lower.shape == (1, QUANTILES.size - 1)
    assert (encoder.first[0], encoder.last[0]) == (values.min(), values.max())


def test_missing_values_are_set_aside_and_flagged() -> None:
    encoder = fit_numeric(np.array([[1, 7], [np.nan, 8], [3, 9], [9, 9]], np.float32))
    assert encoder.median.tolist() == [3, 8]
    assert encoder.flagged == (0,)


def test_a_column_that_is_missing_everywhere_gets_no_flag() -> None:
    """A flag that never changes would be learned as if it were a bias, and taken away once values arrive."""
    encoder = fit_numeric(np.column_stack([_column(np.nan, np.nan, np.nan), _column(1, np.nan, 3)]))
    assert encoder.flagged == (1,)
    arrived = np.array([[5, 1], [np.nan, 1]], np.float32)
    assert encoder.bounded(arrived).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("start", "gap"), [(1_000_000, 1), (8_000_000, 3), (2**24, 6)])
def test_neighbouring_whole_numbers_stay_apart_as_far_as_float32_tells_them(start: int, gap: int) -> None:
    encoder = fit_numeric(np.arange(start, start + 31).astype(np.float32)[:, None])
    assert encoder.lower[0].tolist() == list(range(start, start + 30, gap))
    assert encoder.last[0] == start + 30


@pytest.mark.parametrize("value", [4.0, np.nan, np.inf], ids=["constant", "all missing", "all infinite"])
def test_a_column_without_two_values_carries_nothing(value: float) -> None:
    encoder = fit_numeric(np.column_stack([_column(value, value, value), _column(1, 2, 3)]))
    assert encoder.constant == [0]
    assert not encoder.inverse[0].any()
    assert np.isfinite([encoder.median, encoder.first, encoder.last]).all()


def test_infinite_and_huge_values_leave_every_number_finite() -> None:
    encoder = fit_numeric(_column(-np.inf, -3e38, 0, 1e-45, 1, 3e38, np.inf))
    parts = (encoder.median, encoder.first, encoder.last, encoder.lower, encoder.inverse, encoder.offset, encoder.steps)
    assert all(np.isfinite(part).all() for part in parts)
