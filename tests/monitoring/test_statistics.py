"""Distances and p-values against hand-worked numbers, SciPy, and their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from evergreen.monitoring.statistics import (
    benjamini_hochberg,
    chi_squared_p,
    chi_squared_survival,
    jensen_shannon,
    population_stability,
    upper_gamma,
)


def _counts(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_population_stability_by_hand() -> None:
    # p = (50.5, 50.5) / 101, q = (80.5, 20.5) / 101
    by_hand = (80.5 - 50.5) / 101 * math.log(80.5 / 50.5) + (20.5 - 50.5) / 101 * math.log(20.5 / 50.5)
    assert population_stability(_counts(50, 50), _counts(80, 20)) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.4062, abs=1e-4)


def test_population_stability_of_an_empty_bin_is_finite_and_symmetric() -> None:
    there, back = _counts(1000, 0), _counts(900, 100)
    assert 0.4 < population_stability(there, back) < 0.8
    assert population_stability(there, back) != pytest.approx(math.inf)
    assert population_stability(_counts(10, 20), _counts(20, 10)) == population_stability(
        _counts(20, 10), _counts(10, 20)
    )


def test_jensen_shannon_by_hand() -> None:
    # p = (1/2, 1/2), q = (1, 0), middle (3/4, 1/4)
    by_hand = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25) + math.log(1 / 0.75)) / 2
    assert jensen_shannon(_counts(5, 5), _counts(10, 0)) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.2158, abs=1e-4)


def test_jensen_shannon_reaches_from_nothing_to_ln_2() -> None:
    assert jensen_shannon(_counts(3, 7), _counts(30, 70)) == pytest.approx(0, abs=1e-15)
    assert jensen_shannon(_counts(3, 0), _counts(0, 9)) == pytest.approx(math.log(2))


def test_chi_squared_by_hand() -> None:
    # expected 65 and 35 in both rows: 2 * (15**2 / 65 + 15**2 / 35) = 19.78 with one degree of freedom
    p = chi_squared_p(_counts(50, 50), _counts(80, 20))
    assert p == pytest.approx(math.erfc(math.sqrt(2 * (225 / 65 + 225 / 35) / 2)), rel=1e-10)


def test_chi_squared_agrees_with_scipy() -> None:
    table = np.array([[120, 80, 60, 40], [90, 95, 70, 45]])
    wanted = scipy.stats.chi2_contingency(table, correction=False).pvalue
    assert chi_squared_p(table[0], table[1]) == pytest.approx(wanted, rel=1e-12)


def test_sparse_bins_are_judged_together() -> None:
    reference, current = _counts(500, 480, 1, 2, 3, 4), _counts(490, 490, 4, 3, 2, 1)
    pooled = np.array([[500, 480, 10], [490, 490, 10]])
    wanted = scipy.stats.chi2_contingency(pooled, correction=False).pvalue
    assert chi_squared_p(reference, current) == pytest.approx(wanted, rel=1e-12)


def test_one_lonely_row_joins_the_smallest_bin() -> None:
    wanted = scipy.stats.chi2_contingency([[500, 101], [480, 120]], correction=False).pvalue
    assert chi_squared_p(_counts(500, 100, 1), _counts(480, 120, 0)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("reference", "current"),
    [
        pytest.param(_counts(), _counts(), id="no bins"),
        pytest.param(_counts(500), _counts(30), id="one bin"),
        pytest.param(_counts(100, 100), _counts(0, 0), id="nothing current"),
        pytest.param(_counts(1, 2), _counts(2, 1), id="few rows"),
    ],
)
def test_where_nothing_can_differ_the_p_value_is_one_and_distances_are_finite(
    reference: np.ndarray, current: np.ndarray
) -> None:
    assert chi_squared_p(reference, current) == 1.0
    assert math.isfinite(population_stability(reference, current))
    assert math.isfinite(jensen_shannon(reference, current))


@given(st.floats(0.5, 200), st.floats(0, 2000))
def test_upper_gamma_agrees_with_scipy(a: float, x: float) -> None:
    assert upper_gamma(a, x) == pytest.approx(scipy.special.gammaincc(a, x), rel=1e-8, abs=1e-13)


def test_survival_of_the_textbook_quantile() -> None:
    assert chi_squared_survival(3.841458820694124, 1) == pytest.approx(0.05, rel=1e-12)
    assert chi_squared_survival(1e6, 9) == 0.0


def test_benjamini_hochberg_by_hand() -> None:
    adjusted = benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5]))
    assert adjusted.tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_benjamini_hochberg_agrees_with_scipy(p_values: list[float]) -> None:
    found = benjamini_hochberg(np.array(p_values))
    assert found.tolist() == pytest.approx(scipy.stats.false_discovery_control(p_values).tolist())


def test_benjamini_hochberg_of_nothing_is_nothing() -> None:
    assert benjamini_hochberg(np.zeros(0)).tolist() == []
