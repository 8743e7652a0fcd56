"""Rows that come from processes without Delta become part of the table, each once."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evergreen.errors import IntegrityError, LakeUnavailable, NotFound
from evergreen.lake import arrivals
from evergreen.lake.arrivals import Arrival, hand_over, take_in
from evergreen.lake.lake import Lake
from evergreen.lake.tables import DataFile, DayTable

ONE, TWO = date(2026, 11, 1), date(2026, 11, 2)
STEPS = ("get", "list", "put", "put_file", "delete")
"""All that taking in does to objects; it also commits to the table."""


def _rows(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"value": values, "text": [f"row {v}" for v in values]})


def _values(lake: Lake, day: date) -> list[int]:
    read: list[int] = lake.table("predictions", "fraud").read([day])["value"].to_pylist()
    return sorted(read)


def _notes(lake: Lake) -> list[str]:
    return lake.objects.list("arrivals/predictions")


def _files(lake: Lake, day: date) -> list[str]:
    return lake.objects.list(f"predictions/fraud/day={day}")


def _after_step(number: int, do: Callable[[], object], lake: Lake, patch: pytest.MonkeyPatch) -> list[str]:
    """Does something once, after the step with that number; the steps so far, as they come."""
    steps: list[str] = []
    lock = threading.Lock()

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            with lock:
                now = len(steps) == number
                steps.append(name)
            found = real(*args, **kwargs)
            if now:
                do()
            return found

        return step

    for owner, name in [*((type(lake.objects), name) for name in STEPS), (DayTable, "_transact")]:
        patch.setattr(owner, name, watched(name, getattr(owner, name)))
    return steps


def _die() -> None:
    raise KeyboardInterrupt


def _hand_over_some(lake: Lake) -> None:
    for n in range(3):
        hand_over(lake, "predictions", "fraud", ONE, _rows(n))
    hand_over(lake, "predictions", "fraud", TWO, _rows(9))


def test_what_was_handed_over_is_in_the_table_by_one_commit(lake: Lake) -> None:
    for n in range(5):
        hand_over(lake, "predictions", "fraud", ONE, _rows(n))
    hand_over(lake, "predictions", "fraud", TWO, _rows(9))
    assert not lake.table("predictions", "fraud").exists()
    assert take_in(lake, "predictions", "fraud") == 6
    assert (_values(lake, ONE), _values(lake, TWO)) == ([0, 1, 2, 3, 4], [9])
    days = lake.table("predictions", "fraud").days()
    assert {day.version for day in days} == {1}, "one commit made the table, one filled it"
    assert not _notes(lake)


def test_each_day_gets_one_file_a_call_and_the_small_ones_go(lake: Lake) -> None:
    for values in ((0, 1, 2), (3, 4)):
        for n in values:
            hand_over(lake, "predictions", "fraud", ONE, _rows(n))
        hand_over(lake, "predictions", "fraud", TWO, _rows(values[0]))
        take_in(lake, "predictions", "fraud")
    for day in (ONE, TWO):
        found = lake.table("predictions", "fraud").files()
        assert _files(lake, day) == sorted(f"predictions/fraud/{f.path}" for f in found if f.day == day)
        assert len(_files(lake, day)) == 2
    assert (_values(lake, ONE), _values(lake, TWO)) == ([0, 1, 2, 3, 4], [0, 3])


@pytest.mark.parametrize(("held", "row_groups"), [(1 << 20, 1), (1, 9)])
def test_as_many_small_files_as_are_held_at_once_become_a_row_group(
    held: int, row_groups: int, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(9):
        hand_over(lake, "predictions", "fraud", ONE, _rows(n))
    monkeypatch.setattr(arrivals, "ROW_GROUP_BYTES", held)
    take_in(lake, "predictions", "fraud")
    (path,) = _files(lake, ONE)
    assert pq.ParquetFile(pa.BufferReader(lake.objects.get(path))).num_row_groups == row_groups
    assert _values(lake, ONE) == list(range(9))


def test_handing_over_and_taking_in_again_change_nothing(lake: Lake) -> None:
    hand_over(lake, "predictions", "fraud", ONE, _rows(1, 2))
    take_in(lake, "predictions", "fraud")
    before = lake.table("predictions", "fraud").day(ONE)
    hand_over(lake, "predictions", "fraud", ONE, _rows(1, 2))
    take_in(lake, "predictions", "fraud")
    assert take_in(lake, "predictions", "fraud") == 0
    assert lake.table("predictions", "fraud").day(ONE) == before
    assert not _notes(lake)


def test_a_death_after_any_step_loses_and_doubles_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in itertools.count():
        one = Lake(f"{lake.url}-{number}", lake.options)
        _hand_over_some(one)
        with monkeypatch.context() as patch:
            steps = _after_step(number, _die, one, patch)
            try:
                take_in(one, "predictions", "fraud")
                break
            except KeyboardInterrupt:
                pass
        hand_over(one, "predictions", "fraud", ONE, _rows(0))  # as its writer does that died too
        hand_over(one, "predictions", "fraud", ONE, _rows(3))
        take_in(one, "predictions", "fraud")
        assert (_values(one, ONE), _values(one, TWO)) == ([0, 1, 2, 3], [9]), steps[-1]
        assert not _notes(one)
        assert len(_files(one, ONE)) <= 3, "at most what two calls merged and what one left undone"
    assert set(steps) == {*STEPS, "_transact"}


def test_another_taker_after_any_step_loses_and_doubles_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None:
        hand_over(one, "predictions", "fraud", ONE, _rows(3))
        take_in(one, "predictions", "fraud")

    for number in itertools.count():
        one = Lake(f"{lake.url}-{number}", lake.options)
        _hand_over_some(one)
        with monkeypatch.context() as patch:
            steps = _after_step(number, other, one, patch)
            take_in(one, "predictions", "fraud")
        if len(steps) <= number:
            break
        take_in(one, "predictions", "fraud")
        assert (_values(one, ONE), _values(one, TWO)) == ([0, 1, 2, 3], [9]), steps[number]
        assert not _notes(one)


def test_a_small_file_that_is_part_of_the_table_itself_stays(lake: Lake) -> None:
    handed = hand_over(lake, "predictions", "fraud", ONE, _rows(1))
    file = DataFile(path=handed.file, day=ONE, rows=handed.rows, size_bytes=handed.size_bytes)
    schema = pa.schema({"value": pa.int64(), "text": pa.string()})
    lake.table("predictions", "fraud").append_files(lambda _: [file], schema)
    hand_over(lake, "predictions", "fraud", ONE, _rows(2))
    take_in(lake, "predictions", "fraud")
    assert _values(lake, ONE) == [1, 2]
    assert not _notes(lake)


def test_a_file_that_is_gone_or_altered_is_named_and_nothing_is_removed(lake: Lake) -> None:
    hand_over(lake, "predictions", "fraud", ONE, _rows(1))
    lost = f"predictions/fraud/{hand_over(lake, 'predictions', 'fraud', TWO, _rows(2)).file}"
    data = lake.objects.get(lost)
    lake.objects.delete(lost)
    with pytest.raises(NotFound, match=lost):
        take_in(lake, "predictions", "fraud")
    lake.objects.put(lost, data[:-9] + b"?" + data[-8:])
    with pytest.raises(IntegrityError, match=lost):
        take_in(lake, "predictions", "fraud")
    lake.objects.put(lost, data)
    assert take_in(lake, "predictions", "fraud") == 2
    assert (_values(lake, ONE), _values(lake, TWO)) == ([1], [2])


def test_many_writers_and_takers_at_once_lose_and_double_nothing(lake: Lake) -> None:
    def work(n: int) -> None:
        hand_over(lake, "predictions", "fraud", ONE, _rows(n))
        take_in(lake, "predictions", "fraud")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert _values(lake, ONE) == list(range(8))


def test_a_new_column_joins_and_a_changed_type_waits_and_is_named(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    hand_over(lake, "predictions", "fraud", ONE, _rows(1))
    hand_over(lake, "predictions", "fraud", ONE, _rows(2).with_columns(added=pl.lit(0.5)))
    take_in(lake, "predictions", "fraud")
    hand_over(lake, "predictions", "fraud", ONE, _rows(3).with_columns(pl.col("value").cast(pl.String)))
    with caplog.at_level(logging.ERROR):
        assert take_in(lake, "predictions", "fraud") == 0
    assert "Column value of predictions/fraud" in caplog.text
    assert _values(lake, ONE) == [1, 2]
    assert len(_notes(lake)) == 1


def test_a_note_says_all_about_its_file(lake: Lake) -> None:
    arrival = hand_over(lake, "predictions", "fraud", ONE, _rows(1, 2, 3))
    (note,) = _notes(lake)
    assert Arrival.of_note(note) == arrival
    assert (arrival.rows, arrival.size_bytes) == (3, len(lake.objects.get(f"predictions/fraud/{arrival.file}")))


def test_a_lake_that_is_down_takes_nothing_over(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("down") / "lake"
    root.write_text("a file where the lake's folder should be")
    with pytest.raises(LakeUnavailable):
        hand_over(Lake(root.as_uri()), "predictions", "fraud", ONE, _rows(1))
