"""What readers without Delta see of a table."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pytest

from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import days_path, publish_days, published_days, read_published_day

ONE = date(2026, 11, 1)
TYPES = {"value": pl.Int64(), "later": pl.String()}


def _write(lake: Lake, day: date, *values: int) -> None:
    lake.table("clean", "fraud").replace_day(day, pa.table({"value": pa.array(values, pa.int64())}))


def _published(lake: Lake) -> dict[date, list[int]]:
    found = published_days(lake, "clean", "fraud")
    return {day.day: read_published_day(lake, day, TYPES)["value"].to_list() for day in found}


def test_nothing_is_published_of_a_table_never_written(lake: Lake) -> None:
    assert publish_days(lake, "clean", "fraud") is None
    assert published_days(lake, "clean", "fraud") == ()


def test_published_days_are_those_of_the_table_with_what_replaced_them(lake: Lake) -> None:
    _write(lake, ONE, 1)
    _write(lake, ONE + timedelta(1), 2)
    publish_days(lake, "clean", "fraud")
    _write(lake, ONE, 3, 4)
    assert _published(lake) == {ONE: [1], ONE + timedelta(1): [2]}
    publish_days(lake, "clean", "fraud")
    assert _published(lake) == {ONE: [3, 4], ONE + timedelta(1): [2]}
    table = lake.table("clean", "fraud").days()
    assert [day.digest for day in published_days(lake, "clean", "fraud")] == [day.digest for day in table]


def test_a_column_that_a_day_does_not_have_yet_is_null(lake: Lake) -> None:
    _write(lake, ONE, 1)
    publish_days(lake, "clean", "fraud")
    (day,) = published_days(lake, "clean", "fraud")
    read = read_published_day(lake, day, TYPES)
    assert read.schema == pl.Schema(TYPES)
    assert read["later"].to_list() == [None]


def test_altered_bytes_are_refused(lake: Lake) -> None:
    _write(lake, ONE, 1)
    publish_days(lake, "clean", "fraud")
    (day,) = published_days(lake, "clean", "fraud")
    lake.objects.put(day.files[0][0], b"something else")
    with pytest.raises(IntegrityError, match="digest"):
        read_published_day(lake, day, TYPES)


def test_something_else_in_its_place_is_named(lake: Lake) -> None:
    lake.objects.put(days_path("clean", "fraud"), b"[]")
    with pytest.raises(IntegrityError, match="the days of the table as JSON"):
        published_days(lake, "clean", "fraud")


def test_days_that_did_not_change_are_not_parsed_again(lake: Lake) -> None:
    _write(lake, ONE, 1)
    publish_days(lake, "clean", "fraud")
    assert published_days(lake, "clean", "fraud") is published_days(lake, "clean", "fraud")
    _write(lake, ONE, 2)
    publish_days(lake, "clean", "fraud")
    assert _published(lake) == {ONE: [2]}


def test_days_written_side_by_side_are_all_published_in_the_end(lake: Lake) -> None:
    def work(n: int) -> None:
        _write(lake, ONE + timedelta(n), n)
        publish_days(lake, "clean", "fraud")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert _published(lake) == {ONE + timedelta(n): [n] for n in range(8)}
