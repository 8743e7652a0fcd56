"""Sketches count every row, merge in any order, and come back from bytes as they were."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.monitoring.sketch import (
    CategoricalSketch,
    NumericSketch,
    Sketch,
    cells_of,
    lower_edges,
    merge,
    sketch_frames,
    sketch_numbers,
)
from evergreen.monitoring.sketch_file import read_sketch, write_sketch

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-300, 300).map(float))
VALUES = st.one_of(st.none(), st.sampled_from(["a", "b", "", "é", "long value"]))


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 30))
    return pl.DataFrame(
        {
            "x": draw(st.lists(NUMBERS, min_size=rows, max_size=rows)),
            "c": draw(st.lists(VALUES, min_size=rows, max_size=rows)),
        },
        schema={"x": pl.Float64, "c": pl.String},
    )


def _sketch(*parts: pl.DataFrame) -> Sketch:
    return sketch_frames(parts, numeric=["x"], categorical=["c"])


@given(frames(), frames(), frames())
def test_merging_is_associative_and_commutative_and_loses_no_row(
    a: pl.DataFrame, b: pl.DataFrame, c: pl.DataFrame
) -> None:
    whole = write_sketch(_sketch(pl.concat([a, b, c])))
    x, y, z = _sketch(a), _sketch(b), _sketch(c)
    assert write_sketch(merge([merge([x, y]), z])) == whole
    assert write_sketch(merge([x, merge([y, z])])) == whole
    assert write_sketch(merge([z, x, y])) == whole
    assert write_sketch(_sketch(c, a, b)) == whole
    assert merge([x, y, z])["x"].rows == merge([x, y, z])["c"].rows == a.height + b.height + c.height


@given(frames())
def test_bytes_bring_back_the_same_sketch(frame: pl.DataFrame) -> None:
    data = write_sketch(_sketch(frame))
    assert write_sketch(read_sketch(data)) == data


@given(st.floats(min_value=2.0**-1000, max_value=2.0**1000))
def test_cell_is_no_wider_than_a_64th(value: float) -> None:
    (low, next_low) = lower_edges(cells_of(np.array([value])) + np.array([0, 1]))
    assert low <= value < next_low
    assert next_low - low <= low / 64


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=50))
def test_order_of_cells_is_order_of_numbers(values: list[float]) -> None:
    assert (np.diff(cells_of(np.sort(np.array(values)))) >= 0).all()


def test_small_integers_have_cells_of_their_own() -> None:
    integers = np.arange(-127.0, 128.0)
    assert len(np.unique(cells_of(integers))) == 255
    assert lower_edges(cells_of(integers)).tolist() == integers.tolist()


def test_null_nan_infinity_and_both_zeros_are_told_apart_where_it_matters() -> None:
    sketch = sketch_numbers(pl.Series([None, float("nan"), float("inf"), -0.0, 0.0, None]))
    assert (sketch.missing, sketch.not_a_number) == (2, 1)
    assert dict(zip(lower_edges(sketch.cells).tolist(), sketch.counts.tolist(), strict=True)) == {
        0.0: 2,
        float("inf"): 1,
    }


def test_booleans_and_float32_scores_are_numbers() -> None:
    assert sketch_numbers(pl.Series([True, False, True])).counts.tolist() == [1, 2]
    assert lower_edges(sketch_numbers(pl.Series([0.5], dtype=pl.Float32)).cells).tolist() == [0.5]


def test_commonest_thousand_values_are_listed_and_the_rest_counted() -> None:
    values = [f"{index:05d}" for index in range(1500)] + ["01499"] * 5
    sketch = sketch_frames([pl.DataFrame({"c": values})], numeric=[], categorical=["c"])["c"]
    assert isinstance(sketch, CategoricalSketch)
    assert len(sketch.values) == 1000
    assert sketch.values.to_list() == [*values[:999], "01499"]
    assert sketch.counts[-1] == 6
    assert sketch.rest == 500
    assert sketch.rows == 1505


def test_column_in_one_sketch_alone_survives_a_merge() -> None:
    old = {"x": sketch_numbers(pl.Series([1.0]))}
    new = {"x": sketch_numbers(pl.Series([2.0])), "y": sketch_numbers(pl.Series([3.0]))}
    merged = merge([old, new])
    assert (merged["x"].rows, merged["y"].rows) == (2, 1)


def test_numeric_and_categorical_do_not_merge() -> None:
    number = NumericSketch(cells=np.zeros(0, np.int64), counts=np.zeros(0, np.int64))
    text = CategoricalSketch(values=pl.Series([], dtype=pl.String), counts=np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([{"x": number}, {"x": text}])


def test_other_bytes_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        read_sketch(b"something else entirely")
