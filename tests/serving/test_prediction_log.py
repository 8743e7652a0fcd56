"""The journal and its way into the lake."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from evergreen.errors import ConfigurationError, LakeUnavailable
from evergreen.lake.arrivals import take_in
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.config import ServingConfig
from evergreen.serving.journal import Journal
from evergreen.serving.prediction_log import PredictionLog, lock_journal, predictions_schema

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = NOON.date()
CONFIG = ServingConfig(flush_seconds=0.05)


def rows(pipeline: Pipeline, *ids: str, at: datetime = NOON) -> pl.DataFrame:
    size = len(ids)
    own = {
        "prediction_id": list(ids),
        "key": [f"key of {i}" for i in ids],
        "event_time": [at] * size,
        "known_at": [at] * size,
        "version": ["v"] * size,
        "score": [0.25] * size,
        "decision": ["review"] * size,
    }
    features = dict.fromkeys(pipeline.features.numeric, [1.5] * size) | dict.fromkeys(
        pipeline.features.categorical, ["x"] * size
    )
    return pl.DataFrame(own | features, schema_overrides=predictions_schema(pipeline))


def logged(lake: Lake, pipeline: Pipeline) -> list[str]:
    take_in(lake, "predictions", pipeline.pipeline)
    days = [d.day for d in lake.table("predictions", pipeline.pipeline).days()]
    if not days:
        return []
    table = lake.table("predictions", pipeline.pipeline).read(days, ["prediction_id"])
    return sorted(table["prediction_id"].to_pylist())


def test_stop_flushes_everything(fraud: Pipeline, lake: Lake, tmp_path: Path) -> None:
    log = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    log.start()
    log.append(rows(fraud, "a", "b"))
    log.append(rows(fraud, "c", at=NOON + timedelta(days=1)))
    assert log.backlog_rows > 0
    log.stop()
    assert logged(lake, fraud) == ["a", "b", "c"]
    assert log.backlog_rows == 0
    assert lake.table("predictions", "fraud").read([date(2026, 11, 3)]).num_rows == 1
    assert not list((tmp_path / "journal" / "fraud").iterdir())


def test_a_journal_left_by_a_killed_process_is_replayed(fraud: Pipeline, lake: Lake, tmp_path: Path) -> None:
    killed = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    killed.append(rows(fraud, "a"))
    killed.append(rows(fraud, "b"))
    heir = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    assert heir.backlog_rows == 2
    heir.append(rows(fraud, "c"))
    heir.flush()
    assert logged(lake, fraud) == ["a", "b", "c"]


def test_a_segment_committed_but_not_removed_never_doubles(fraud: Pipeline, lake: Lake, tmp_path: Path) -> None:
    log = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    log.append(rows(fraud, "a", "b"))
    shutil.copytree(tmp_path / "journal", tmp_path / "kept")
    log.flush()
    assert logged(lake, fraud) == ["a", "b"]
    version = lake.table("predictions", "fraud").days()[0].version
    PredictionLog(fraud, lake, tmp_path / "kept", CONFIG).flush()
    assert logged(lake, fraud) == ["a", "b"]
    assert lake.table("predictions", "fraud").days()[0].version == version


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_torn_end_costs_only_the_row_never_acknowledged(
    fraud: Pipeline, lake: Lake, tmp_path: Path, cut: int
) -> None:
    log = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    log.append(rows(fraud, "a"))
    log.append(rows(fraud, "b"))
    (segment,) = (tmp_path / "journal" / "fraud").iterdir()
    segment.write_bytes(segment.read_bytes()[:-cut])
    heir = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    heir.flush()
    assert logged(lake, fraud) == ["a"]


def test_a_segment_torn_in_its_first_frame_is_empty(fraud: Pipeline, lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "journal" / "fraud"
    folder.mkdir(parents=True)
    (folder / "000000001.journal").write_bytes(b"\x10")
    log = PredictionLog(fraud, lake, tmp_path / "journal", CONFIG)
    log.append(rows(fraud, "a"))
    log.flush()
    assert logged(lake, fraud) == ["a"]


def test_an_unwritable_lake_keeps_the_journal_until_it_mends(fraud: Pipeline, lake: Lake, tmp_path: Path) -> None:
    in_the_way = tmp_path / "lake"
    in_the_way.write_text("a file where the lake's folder should be")
    log = PredictionLog(fraud, lake, tmp_path / "journal", ServingConfig(flush_rows=2))
    for name in "abc":
        log.append(rows(fraud, name))
    with pytest.raises(LakeUnavailable):
        log.flush()
    log.append(rows(fraud, "d"))
    assert log.backlog_rows == 4
    in_the_way.unlink()
    log.flush()
    assert log.backlog_rows == 0
    assert logged(lake, fraud) == ["a", "b", "c", "d"]


def test_an_unwritable_journal_refuses_the_prediction(fraud: Pipeline, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    shutil.rmtree(tmp_path / "journal")
    with pytest.raises(LakeUnavailable, match="room for one more prediction"):
        journal.append(rows(fraud, "a"))


def test_a_write_cut_short_by_a_full_disk_hides_no_later_row(
    fraud: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    journal = Journal(tmp_path / "journal")
    journal.append(rows(fraud, "a"))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(LakeUnavailable):
            journal.append(rows(fraud, "b"))
    journal.append(rows(fraud, "c"))
    journal.seal()
    (segment,) = journal.sealed()
    table = segment.read()
    assert table is not None
    assert table["prediction_id"].to_list() == ["a", "c"]


def test_two_processes_never_share_a_journal(tmp_path: Path) -> None:
    lock_journal(tmp_path)
    with pytest.raises(ConfigurationError, match="another serving process"):
        lock_journal(tmp_path)
