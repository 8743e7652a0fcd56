"""Days of a Delta table: replaced whole, appended once, checked to the byte, safe among many writers."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyarrow import fs

from evergreen.artifacts import TableDay
from evergreen.errors import ConfigurationError, IntegrityError, LakeUnavailable, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.tables import DataFile, DayTable, days_between

ONE, TWO, THREE = days_between(date(2026, 11, 1), date(2026, 11, 3))
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def table(lake: Lake) -> DayTable:
    """A table that was never written."""
    return lake.table("clean", "fraud")


def _rows(*values: int, **more: list[object]) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.int64()), **more})


def _values(table: DayTable, *days: date) -> list[int]:
    return table.read(days)["value"].to_pylist()


def _data_files(table: DayTable, lake: Lake, day: date) -> list[str]:
    return lake.objects.list(f"{table.path}/day={day}")


def test_day_holds_what_replaced_it(table: DayTable) -> None:
    table.replace_day(ONE, _rows(1, 2))
    table.replace_day(TWO, _rows(3))
    written = table.replace_day(ONE, _rows(4))
    assert _values(table, ONE, TWO) == [4, 3]
    assert written == table.day(ONE)
    assert (written.zone, written.pipeline, written.day, written.rows) == ("clean", "fraud", ONE, 1)


def test_never_written_days_are_none_and_absent(table: DayTable) -> None:
    assert table.day(ONE) is None
    assert table.days() == []
    table.replace_day(TWO, _rows(1))
    assert table.day(ONE) is None
    assert [d.day for d in table.days()] == [TWO]


def test_days_are_those_between_both_ends(table: DayTable) -> None:
    for day in (THREE, ONE, TWO):
        table.replace_day(day, _rows(day.day))
    assert [d.day for d in table.days(TWO, THREE)] == [TWO, THREE]
    assert [d.day for d in table.days(last=TWO)] == [ONE, TWO]
    assert _values(table, THREE, ONE) == [1, 3]


def test_same_rows_again_are_the_same_bytes_and_no_commit(table: DayTable, lake: Lake) -> None:
    first = table.replace_day(ONE, _rows(1, 2))
    assert table.replace_day(ONE, _rows(1, 2)) == first
    other = Lake(f"{lake.url}-elsewhere", lake.options).table("clean", "fraud")
    assert other.replace_day(ONE, _rows(1, 2)).digest == first.digest
    assert table.replace_day(ONE, _rows(2, 1)).digest != first.digest


def test_empty_day_is_written_and_is_not_a_missing_one(table: DayTable) -> None:
    written = table.replace_day(ONE, _rows())
    assert written.rows == 0
    assert table.day(ONE) == written
    assert _values(table, ONE) == []
    table.verify(written)


def test_appended_rows_join_the_day_once(table: DayTable) -> None:
    table.append_day(ONE, _rows(1, 2))
    second = table.append_day(ONE, _rows(3))
    assert table.append_day(ONE, _rows(3)) == second
    assert second.rows == 3
    assert sorted(_values(table, ONE)) == [1, 2, 3]
    assert table.replace_day(ONE, _rows(9)).rows == 1
    assert _values(table, ONE) == [9]


def test_rows_may_come_in_batches(table: DayTable) -> None:
    batches = [pa.record_batch({"value": pa.array([n, n + 1])}) for n in (1, 3)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, iter(batches))
    assert table.replace_day(ONE, reader).rows == 4
    assert _values(table, ONE) == [1, 2, 3, 4]


def test_source_that_breaks_in_the_middle_leaves_the_day_as_it_was(table: DayTable) -> None:
    before = table.replace_day(ONE, _rows(1))

    def broken() -> object:
        yield pa.record_batch({"value": pa.array([2])})
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        table.replace_day(ONE, pa.RecordBatchReader.from_batches(pa.schema({"value": pa.int64()}), broken()))
    assert table.day(ONE) == before
    assert _values(table, ONE) == [1]


def test_every_type_survives(table: DayTable) -> None:
    rows = pa.table(
        {
            "text": pa.array(["ä", None]),
            "whole": pa.array([2**53 + 1, None]),
            "number": pa.array([0.1, None]),
            "flag": pa.array([True, None]),
            "instant": pa.array([NOON, None], pa.timestamp("us", "UTC")),
            "small": pa.array([1, None], pa.int8()),
            "score": pa.array([0.5, None], pa.float32()),
            "day_of": pa.array([ONE, None], pa.date32()),
            "reasons": pa.array([["b", "a"], None], pa.list_(pa.string())),
        }
    )
    table.replace_day(ONE, rows)
    found = table.read([ONE])
    assert found.schema.names == rows.schema.names
    assert found.to_pylist() == rows.to_pylist()
    for name in set(rows.schema.names) - {"reasons"}:
        assert found.schema.field(name).type == rows.schema.field(name).type


def test_large_and_plain_strings_share_a_column(table: DayTable) -> None:
    table.replace_day(ONE, pa.table({"text": pa.array(["a"], pa.string())}))
    table.replace_day(TWO, pa.table({"text": pa.array(["b"], pa.large_string())}))
    table.replace_day(THREE, pl.DataFrame({"text": ["c"]}).to_arrow())
    assert table.read([ONE, TWO, THREE])["text"].to_pylist() == ["a", "b", "c"]


def test_new_column_is_null_on_earlier_days(table: DayTable) -> None:
    table.replace_day(ONE, _rows(1))
    table.replace_day(TWO, _rows(2, extra=["x"]))
    found = table.read([ONE, TWO]).to_pylist()
    assert found == [{"value": 1, "extra": None}, {"value": 2, "extra": "x"}]


def test_column_that_a_day_lacks_is_null_and_order_does_not_matter(table: DayTable) -> None:
    table.replace_day(ONE, pa.table({"a": [1], "b": ["x"]}))
    table.replace_day(TWO, pa.table({"b": ["y"], "a": [2]}))
    table.replace_day(THREE, pa.table({"b": ["z"]}))
    assert table.read([ONE, TWO, THREE]).to_pylist() == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": None, "b": "z"},
    ]


def test_changed_type_is_refused_and_names_the_column(table: DayTable) -> None:
    before = table.replace_day(ONE, _rows(1))
    with pytest.raises(
        ConfigurationError, match=r"Column value of clean/fraud: found type .*string.* wanted type .*long"
    ):
        table.replace_day(TWO, pa.table({"value": ["one"]}))
    assert table.days() == [before]


def test_scan_of_a_day_that_is_not_there_names_it(table: DayTable) -> None:
    with pytest.raises(NotFound, match=r"no data for 2026-11-01, 2026-11-02.*backfill fraud\.ingest_data"):
        table.read([ONE, TWO])
    table.replace_day(ONE, _rows(1))
    with pytest.raises(NotFound, match="no data for 2026-11-02"):
        table.read([ONE, TWO])


def test_arrow_s_threads_never_need_the_interpreter(table: DayTable) -> None:
    """One that does waits for the interpreter, whose holder may wait for Arrow: a task in fifty hung for good."""
    table.replace_day(ONE, _rows(1))
    with table.scan([ONE]) as rows:
        assert isinstance(rows.filesystem, fs.SubTreeFileSystem)
        assert isinstance(rows.filesystem.base_fs, fs.LocalFileSystem)


def test_altered_file_is_refused_wherever_it_is_read(table: DayTable, lake: Lake) -> None:
    written = table.replace_day(ONE, _rows(1))
    table.replace_day(TWO, _rows(2))
    (file,) = _data_files(table, lake, ONE)
    data = bytearray(lake.objects.get(file))
    data[len(data) // 2] ^= 1
    lake.objects.put(file, bytes(data))
    for read in (lambda: table.read([ONE]), lambda: table.verify(written)):
        with pytest.raises(IntegrityError, match="day=2026-11-01"):
            read()
    assert _values(table, TWO) == [2]


def test_deleted_file_is_not_found(table: DayTable, lake: Lake) -> None:
    written = table.replace_day(ONE, _rows(1))
    lake.objects.delete(_data_files(table, lake, ONE)[0])
    with pytest.raises(NotFound, match="day=2026-11-01"):
        table.verify(written)


def test_writing_an_altered_day_again_mends_it(table: DayTable, lake: Lake) -> None:
    written = table.replace_day(ONE, _rows(1))
    lake.objects.put(_data_files(table, lake, ONE)[0], b"junk")
    assert table.replace_day(ONE, _rows(1)) == written
    table.verify(written)


def test_verify_tells_a_day_that_changed_since_or_never_was(table: DayTable) -> None:
    written = table.replace_day(ONE, _rows(1))
    table.verify(written)
    table.replace_day(TWO, _rows(2))
    table.verify(written)  # another day's commit is no change
    table.replace_day(ONE, _rows(3))
    with pytest.raises(IntegrityError, match="clean/fraud of 2026-11-01"):
        table.verify(written)
    with pytest.raises(NotFound):
        table.verify(written.model_copy(update={"day": THREE}))


def test_writers_of_different_days_all_win(lake: Lake) -> None:
    days = days_between(date(2026, 11, 1), date(2026, 11, 8))
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda day: lake.table("raw", "fraud").replace_day(day, _rows(day.day)), days))
    table = lake.table("raw", "fraud")
    assert [(d.day, d.digest) for d in table.days()] == [(d.day, d.digest) for d in written]
    assert _values(table, *days) == [day.day for day in days]


def test_writers_of_the_same_day_leave_one_of_theirs_whole(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        written: list[TableDay] = list(
            pool.map(lambda n: lake.table("raw", "fraud").replace_day(ONE, _rows(*[n] * n)), range(1, 9))
        )
    table = lake.table("raw", "fraud")
    assert table.day(ONE).digest in {w.digest for w in written}
    values = _values(table, ONE)
    assert values == [len(values)] * len(values)


def test_appenders_at_once_lose_nothing(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: lake.table("predictions", "fraud").append_day(ONE, _rows(n)), range(12)))
    assert sorted(_values(lake.table("predictions", "fraud"), ONE)) == list(range(12))


def test_what_joins_is_chosen_anew_when_another_commit_came_in_between(table: DayTable, lake: Lake) -> None:
    table.append_day(ONE, _rows(1))
    told: list[int] = []

    def choose(files: Sequence[DataFile]) -> list[DataFile]:
        told.append(len(files))
        if len(told) == 1:
            lake.table("clean", "fraud").append_day(ONE, _rows(2))
        return [table.stage(ONE, _rows(len(files) * 10))]

    table.append_files(choose, _rows().schema)
    assert told == [1, 2]
    assert sorted(_values(table, ONE)) == [1, 2, 20]


def test_nothing_chosen_makes_no_commit_and_a_changed_type_is_refused_first(table: DayTable) -> None:
    before = table.append_day(ONE, _rows(1))
    table.append_files(lambda _: [], _rows().schema)
    assert table.day(ONE) == before
    with pytest.raises(ConfigurationError, match="Column value of clean/fraud"):
        table.append_files(lambda _: pytest.fail("asked"), pa.schema({"value": pa.string()}))


def test_long_history_is_read_through_checkpoints(table: DayTable, lake: Lake) -> None:
    days = days_between(date(2026, 10, 1), date(2026, 10, 25))
    for day in days:
        table.replace_day(day, _rows(day.day))
    assert [path for path in lake.objects.list(f"{table.path}/_delta_log") if path.endswith(".checkpoint.parquet")]
    assert _values(table, *days) == [day.day for day in days]
    assert table.days()[0].rows == 1


def test_other_delta_readers_see_the_same_rows(table: DayTable, lake: Lake) -> None:
    table.replace_day(ONE, _rows(1, 2))
    table.replace_day(ONE, _rows(3))
    table.replace_day(TWO, _rows(4))
    found = pl.scan_delta(DeltaTable(table.url, storage_options=dict(lake.options))).sort("day").collect().to_dicts()
    assert found == [{"value": 3, "day": ONE}, {"value": 4, "day": TWO}]


@pytest.mark.parametrize("folder", ["with space", "ümlaut"])
def test_lake_may_have_any_name(folder: str, tmp_path: Path) -> None:
    table = Lake((tmp_path / folder).as_uri()).table("clean", "fraud")
    table.verify(table.replace_day(ONE, _rows(1)))
    assert _values(table, ONE) == [1]
    assert [p.name for p in tmp_path.iterdir()] == [folder]


def test_unknown_zone_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="'silver' is not one of"):
        lake.table("silver", "fraud")


@pytest.mark.parametrize("lake", ["file"], indirect=True)
def test_full_disk_leaves_the_day_as_it_was(table: DayTable) -> None:
    before = table.replace_day(ONE, _rows(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(LakeUnavailable, match=r"clean/fraud.*nothing was half-written"):
            table.replace_day(ONE, _rows(*range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert table.day(ONE) == before
    assert table.replace_day(ONE, _rows(*range(1000))).rows == 1000


def test_damaged_log_is_the_lakes_error(table: DayTable, lake: Lake) -> None:
    table.replace_day(ONE, _rows(1))
    for path in lake.objects.list(f"{table.path}/_delta_log"):
        lake.objects.put(path, b"not json")
    with pytest.raises(LakeUnavailable, match="Opening clean/fraud"):
        table.days()
