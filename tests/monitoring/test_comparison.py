"""What counts as drift: bins that see the change, floors that ignore the harmless, few false alarms."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from evergreen.monitoring.binning import bins_of
from evergreen.monitoring.comparison import SCORE, Comparison, compare
from evergreen.monitoring.sketch import ColumnSketch, Sketch, sketch_numbers, sketch_values
from evergreen.pipeline import Monitoring

MONITORING = Monitoring(min_rows=200)


def _numbers(values: object) -> ColumnSketch:
    return sketch_numbers(pl.Series(np.asarray(values, np.float64)).fill_nan(None))


def _texts(counts: dict[str, int]) -> ColumnSketch:
    return sketch_values(pl.Series([value for value, count in counts.items() for _ in range(count)]))


def _compare(reference: ColumnSketch, current: ColumnSketch, monitoring: Monitoring = MONITORING) -> Comparison:
    return compare({"x": reference}, {"x": current}, monitoring)


def _normal(rng: np.random.Generator, rows: int, columns: int, shift: float = 0.0) -> Sketch:
    return {f"x{index}": _numbers(rng.normal(shift, 1, rows)) for index in range(columns)}


@pytest.mark.parametrize("rows", [300, 20_000])
def test_sixty_days_of_noise_in_thirty_columns_raise_no_alarm(rows: int) -> None:
    rng = np.random.default_rng(1)
    reference = _normal(rng, 60_000, 30)
    days = [compare(reference, _normal(rng, rows, 30), MONITORING) for _ in range(60)]
    assert sum(day.drifted for day in days) == 0


def test_without_floors_false_discovery_control_alone_keeps_noise_below_its_rate() -> None:
    rng = np.random.default_rng(2)
    barely = Monitoring(
        min_rows=200, population_stability_floor=1e-9, jensen_shannon_floor=1e-9, false_discovery_rate=0.05
    )
    reference = _normal(rng, 60_000, 30)
    alarms = sum(compare(reference, _normal(rng, 300, 30), barely).drifted for _ in range(30))
    assert alarms <= 5  # binomial(30, 0.05): more on 0.3 % of runs


def test_harmless_shift_in_many_rows_is_certain_and_still_no_drift() -> None:
    rng = np.random.default_rng(3)
    found = compare(_normal(rng, 300_000, 10), _normal(rng, 100_000, 10, shift=0.02), MONITORING)
    assert all(column.p_value < 0.01 for column in found.columns)
    assert not found.drifted


def test_real_shift_drifts_and_leads_the_list() -> None:
    rng = np.random.default_rng(4)
    current = {**_normal(rng, 5000, 10), "x3": _numbers(rng.normal(0.8, 1, 5000))}
    found = compare(_normal(rng, 50_000, 10), current, MONITORING)
    assert [column.column for column in found.moved] == ["x3"]
    assert found.columns[0].column == "x3"


def test_fewer_rows_than_wanted_give_no_verdict_however_far_they_moved() -> None:
    found = _compare(_numbers(np.zeros(5000)), _numbers(np.ones(35)))
    assert not found.drifted
    assert not found.judged
    assert found.unjudged == {"x": "too few rows: 35 of 200"}


def test_thin_reference_gives_no_verdict_either() -> None:
    assert not _compare(_numbers(np.zeros(35)), _numbers(np.ones(5000))).judged


@pytest.mark.parametrize(
    ("reference", "current", "drifted"),
    [
        pytest.param(np.full(5000, 7.0), np.full(900, 7.0), False, id="constant stays"),
        pytest.param(np.full(5000, 7.0), np.full(900, 7.5), True, id="constant changes"),
        pytest.param(np.full(5000, np.nan), np.full(900, np.nan), False, id="all missing stays"),
        pytest.param(np.full(5000, np.nan), np.full(900, 1.0), True, id="missing appears"),
        pytest.param(
            np.arange(5000.0), np.r_[np.arange(450.0) * 11, np.full(450, np.nan)], True, id="half goes missing"
        ),
        pytest.param(np.arange(5000.0), np.r_[np.arange(450.0) * 11, np.full(450, -1.0)], True, id="new default value"),
        pytest.param(np.arange(5000.0), np.arange(900.0) * 1e12, True, id="beyond the range"),
        pytest.param(np.r_[np.zeros(4500), np.ones(500)], np.r_[np.zeros(450), np.ones(450)], True, id="flag turns"),
    ],
)
def test_edges_of_numeric_columns(reference: np.ndarray, current: np.ndarray, drifted: bool) -> None:
    assert _compare(_numbers(reference), _numbers(current)).drifted is drifted


@pytest.mark.parametrize(
    ("current", "drifted"),
    [
        pytest.param({"a": 600, "b": 400}, False, id="same"),
        pytest.param({"a": 500, "b": 300, "new": 200}, True, id="new category"),
        pytest.param({"b": 1000}, True, id="category vanishes"),
        pytest.param({f"v{index}": 1 for index in range(1000)}, True, id="only unseen ones"),
    ],
)
def test_edges_of_categorical_columns(current: dict[str, int], drifted: bool) -> None:
    assert _compare(_texts({"a": 6000, "b": 4000}), _texts(current)).drifted is drifted


def test_heavy_values_have_bins_of_their_own() -> None:
    rng = np.random.default_rng(5)
    counts = np.r_[np.zeros(6000), np.full(2000, 3.0), rng.uniform(10, 20, 2000)]
    bins = bins_of(_numbers(counts), _numbers(counts[::2]))
    assert {"0", "3"} <= set(bins.labels)
    assert bins.reference[bins.labels.index("0")] == 6000
    assert bins.reference.sum() == 10_000
    assert bins.current.sum() == 5000


def test_continuous_column_is_cut_at_deciles_and_no_row_is_lost() -> None:
    rng = np.random.default_rng(6)
    bins = bins_of(_numbers(rng.normal(size=100_000)), _numbers(rng.normal(size=999)))
    assert len(bins.labels) == 10
    assert bins.reference.sum() == 100_000
    assert bins.current.sum() == 999
    assert np.abs(bins.reference / 100_000 - 0.1).max() < 0.02


def test_rare_categories_share_one_bin() -> None:
    values = {f"v{index:02d}": 100 - index for index in range(60)}
    bins = bins_of(_texts(values), _texts(values))
    assert bins.labels == (*list(values)[:20], "other")
    assert bins.reference[-1] == sum(list(values.values())[20:])


def test_unjudged_columns_neither_drift_nor_weigh_on_the_others() -> None:
    rng = np.random.default_rng(7)
    reference, current = _normal(rng, 20_000, 2), _normal(rng, 5000, 1) | {"x1": _numbers(np.zeros(5000))}
    found = compare(reference, current, MONITORING, unjudged={"x1": "for a reason"})
    assert not found.drifted
    assert [column.column for column in found.judged] == ["x0"]
    assert found.columns[-1].column == "x1"
    assert (
        found.judged[0].p_value
        == compare({"x0": reference["x0"]}, {"x0": current["x0"]}, MONITORING).columns[0].p_value
    )


def test_score_is_a_kind_of_its_own() -> None:
    scores = _numbers(np.linspace(0, 1, 1000))
    assert compare({SCORE: scores}, {SCORE: scores}, MONITORING).columns[0].kind == "score"


def test_several_columns_may_be_asked_for_before_the_day_counts_as_drifted() -> None:
    rng = np.random.default_rng(8)
    reference = _normal(rng, 20_000, 3)
    current = {**_normal(rng, 5000, 2), "x2": _numbers(rng.normal(2, 1, 5000))}
    strict = MONITORING.model_copy(update={"min_drifted_columns": 2})
    assert compare(reference, current, MONITORING).drifted
    assert not compare(reference, current, strict).drifted
    assert len(compare(reference, current, strict).moved) == 1
