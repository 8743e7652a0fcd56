"""How far two binned samples lie apart, and how sure that is. Pure numbers; no I/O, no pandas, no SciPy.

Counts are int64 [K], one entry a bin, same bins on both sides.
"""

from __future__ import annotations

import math

import numpy as np

from evergreen.monitoring.sketch import Floats, Integers

PSEUDO_COUNT = 0.5
LEAST_EXPECTED = 5.0
TINY = 1e-300


def population_stability(reference: Integers, current: Integers) -> float:
    """The population stability index: sum of (q - p) ln(q / p) over the bins' shares p and q.

    Siddiqi, Credit Risk Scorecards (2006); 0 is the same, 0.1 some, 0.25 much. Each bin gets half a
    count more (Jeffreys' prior), so that an empty bin is finite and weighs less the fewer the rows.
    """
    p, q = _smoothed(reference), _smoothed(current)
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(reference: Integers, current: Integers) -> float:
    """The Jensen-Shannon divergence in nats, from 0 to ln 2 (Lin, IEEE Trans. Inf. Theory 37, 1991)."""
    p, q = (counts / max(counts.sum(), 1) for counts in (reference, current))
    middle = (p + q) / 2
    return max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def chi_squared_p(reference: Integers, current: Integers) -> float:
    """The p-value of Pearson's test that both samples have one distribution; 1 when nothing can differ.

    Bins in which either side expects fewer than five rows are judged together (Cochran, Biometrics 10, 1954).
    """
    table = _pooled_sparse(np.stack([reference, current]).astype(np.float64))
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    expected = _expected(table)
    statistic = float(np.sum((table - expected) ** 2 / expected))
    return chi_squared_survival(statistic, table.shape[1] - 1)


def chi_squared_survival(statistic: float, degrees: int) -> float:
    """P(X >= statistic) for X chi-squared with `degrees` degrees of freedom."""
    return upper_gamma(degrees / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x), for a > 0 and x >= 0.

    Power series below a + 1, continued fraction above (DLMF 8.11.4 and 8.9.2, the latter by Lentz).
    """
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return max(0.0, 1 - scale * _lower_series(a, x)) if x < a + 1 else scale * _upper_fraction(a, x)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """float64 [K]: each p-value adjusted, so that accepting those <= q keeps the false discovery rate at q.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995).
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[::-1]
    scaled = p_values[order] * count / np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled))
    return adjusted


def _smoothed(counts: Integers) -> Floats:
    raised = counts + PSEUDO_COUNT
    return np.asarray(raised / raised.sum(), np.float64)


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))


def _expected(table: Floats) -> Floats:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum(), np.float64)


def _pooled_sparse(table: Floats) -> Floats:
    """The table [2, K] with its sparse bins added up into one, and that into its neighbour if still sparse."""
    if not table.sum():
        return table[:, :0]
    sparse = _expected(table).min(axis=0) < LEAST_EXPECTED
    dense, pooled = table[:, ~sparse], table[:, sparse].sum(axis=1, keepdims=True)
    if not sparse.any() or not dense.shape[1]:
        return dense
    joined = np.hstack([dense, pooled])
    if _expected(joined)[:, -1].min() >= LEAST_EXPECTED:
        return joined
    smallest = int(np.argmin(dense.sum(axis=0)))
    dense[:, smallest] += pooled[:, 0]
    return dense


def _lower_series(a: float, x: float) -> float:
    term = total = 1 / a
    denominator = a
    while abs(term) > abs(total) * 1e-16:
        denominator += 1
        term *= x / denominator
        total += term
    return total


def _upper_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1 / TINY, 1 / b
    fraction, step, k = d, 0.0, 0
    while abs(step - 1) > 1e-15 and k < 10_000:
        k += 1
        factor = -k * (k - a)
        b += 2
        d = 1 / (factor * d + b or TINY)
        c = b + factor / c or TINY
        step = c * d
        fraction *= step
    return fraction
