"""What training took is read from its receipts, from each once, and a replay is no training."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from evergreen.artifacts import Receipt
from evergreen.lake.lake import Lake
from evergreen.lake.objects import LocalObjects
from evergreen.lake.receipts import write_receipt
from evergreen.monitoring.evidence import training_hours
from evergreen.pipeline import Pipeline

MONTH = date(2026, 11, 1)


def _trained(lake: Lake, run: str, hours: float, *, pipeline: str = "fraud") -> None:
    receipt = Receipt(
        pipeline=pipeline,
        run=run,
        task="train",
        attempt=1,
        inputs={},
        spec_digest="0" * 64,
        code_version="1",
        started_at=datetime(2026, 11, 2, tzinfo=UTC),
        seconds=hours * 3600,
        peak_memory_bytes=0,
    )
    write_receipt(lake, receipt)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the receipts that are read."""
    paths: list[str] = []
    get = LocalObjects.get

    def noting(objects: LocalObjects, path: str) -> bytes:
        if path.startswith("receipts/"):
            paths.append(path)
        return get(objects, path)

    monkeypatch.setattr(LocalObjects, "get", noting)
    return paths


def test_replays_are_no_training(lake: Lake, fraud: Pipeline) -> None:
    _trained(lake, "fraud.train_model.manual__1", 2.0)
    _trained(lake, "replay.2026-11-01-abcdef12.0a1b2c3d", 5.0)
    assert training_hours(fraud, MONTH, lake) == (2.0, 2.0)


def test_pipeline_may_be_named_as_replays_begin(lake: Lake, fraud: Pipeline) -> None:
    _trained(lake, "replay.train_model.manual__1", 2.0, pipeline="replay")
    named = fraud.model_copy(update={"pipeline": "replay"})
    assert training_hours(named, MONTH, lake) == (2.0, 2.0)


def test_each_receipt_of_training_is_read_once(lake: Lake, fraud: Pipeline, read: list[str]) -> None:
    _trained(lake, "fraud.train_model.manual__1", 2.0)
    assert training_hours(fraud, MONTH, lake) == (2.0, 2.0)
    _trained(lake, "fraud.train_model.manual__2", 3.0)
    assert training_hours(fraud, MONTH, lake) == training_hours(fraud, MONTH, lake) == (5.0, 3.0)
    assert [path.split("/")[2] for path in read] == ["fraud.train_model.manual__1", "fraud.train_model.manual__2"]


def test_note_that_cannot_be_read_is_made_again(lake: Lake, fraud: Pipeline) -> None:
    _trained(lake, "fraud.train_model.manual__1", 2.0)
    lake.objects.put("trainings/fraud.json", b"[]")
    assert training_hours(fraud, MONTH, lake) == (2.0, 2.0)
