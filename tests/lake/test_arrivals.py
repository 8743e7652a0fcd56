"""Rows that come from processes without Delta become part of the table, each once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import polars as pl
import pytest

from evergreen.errors import LakeUnavailable
from evergreen.lake.arrivals import Arrival, hand_over, take_in
from evergreen.lake.lake import Lake

ONE, TWO = date(2026, 11, 1), date(2026, 11, 2)


def _rows(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"value": values, "text": [f"row {v}" for v in values]})


def _values(lake: Lake, day: date) -> list[int]:
    read: list[int] = lake.table("predictions", "fraud").scan([day]).to_table()["value"].to_pylist()
    return sorted(read)


def _notes(lake: Lake) -> list[str]:
    return lake.objects.list("arrivals")


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


def test_handing_over_and_taking_in_again_change_nothing(lake: Lake) -> None:
    hand_over(lake, "predictions", "fraud", ONE, _rows(1, 2))
    take_in(lake, "predictions", "fraud")
    before = lake.table("predictions", "fraud").day(ONE)
    hand_over(lake, "predictions", "fraud", ONE, _rows(1, 2))
    take_in(lake, "predictions", "fraud")
    assert take_in(lake, "predictions", "fraud") == 0
    assert lake.table("predictions", "fraud").day(ONE) == before
    assert not _notes(lake)


def test_a_death_between_commit_and_removal_of_the_notes_doubles_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(lake, "predictions", "fraud", ONE, _rows(1))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(lake.objects), "delete", die)
        with pytest.raises(KeyboardInterrupt):
            take_in(lake, "predictions", "fraud")
    assert len(_notes(lake)) == 1
    hand_over(lake, "predictions", "fraud", ONE, _rows(2))
    take_in(lake, "predictions", "fraud")
    assert _values(lake, ONE) == [1, 2]


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
