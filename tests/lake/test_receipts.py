"""No receipt of this very try, or an output that is not as recorded: not green."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from evergreen.artifacts import Receipt
from evergreen.errors import IntegrityError, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import read_receipts, receipt_path, require_receipt, write_receipt

DAY = date(2026, 11, 1)
RUN = "scheduled__2026-11-01T00:00:00+00:00"


@pytest.fixture
def make_receipt(lake: Lake) -> Callable[..., Receipt]:
    """Makes a receipt for one table day and one object that really are in the lake."""

    def make(**changes: Any) -> Receipt:
        fields: dict[str, Any] = {
            "pipeline": "fraud",
            "run": RUN,
            "task": "ingest.extract",
            "attempt": 1,
            "inputs": {},
            "tables": (lake.table("raw", "fraud").replace_day(DAY, pa.table({"value": [1]})),),
            "objects": (lake.objects.put("reports/fraud/x.html", b"fine"),),
            "spec_digest": "0" * 64,
            "code_version": "1",
            "started_at": datetime(2026, 11, 2, tzinfo=UTC),
            "seconds": 1.0,
            "peak_memory_bytes": 1,
        }
        return Receipt(**fields | changes)

    return make


def _require(lake: Lake, **changes: Any) -> Receipt:
    return require_receipt(lake, **{"pipeline": "fraud", "run": RUN, "task": "ingest.extract", "attempt": 1} | changes)


def test_receipt_of_whole_outputs_is_given_back(lake: Lake, make_receipt: Callable[..., Receipt]) -> None:
    receipt = make_receipt(result={"rows": 1, "days": ["2026-11-01"]})
    assert lake.objects.exists(write_receipt(lake, receipt))
    assert _require(lake) == receipt


@pytest.mark.parametrize(
    "other", [{"attempt": 2}, {"task": "validate"}, {"run": "manual__1"}, {"pipeline": "churn"}], ids=str
)
def test_receipt_of_another_try_task_run_or_pipeline_is_none(
    other: dict[str, Any], lake: Lake, make_receipt: Callable[..., Receipt]
) -> None:
    write_receipt(lake, make_receipt())
    with pytest.raises(NotFound, match="see its log, then clear the task"):
        _require(lake, **other)


def test_receipt_moved_to_another_try_is_refused(lake: Lake, make_receipt: Callable[..., Receipt]) -> None:
    path = write_receipt(lake, make_receipt())
    lake.objects.put(receipt_path("fraud", RUN, "ingest.extract", 2), lake.objects.get(path))
    with pytest.raises(IntegrityError, match=r"found one of .* try 1, wanted one of this very try"):
        _require(lake, attempt=2)


@pytest.mark.parametrize("content", [b"", b"{", b'{"pipeline": "fraud"}'], ids=["empty", "cut off", "fields missing"])
def test_receipt_that_cannot_be_read_is_refused(content: bytes, lake: Lake) -> None:
    lake.objects.put(receipt_path("fraud", RUN, "ingest.extract", 1), content)
    with pytest.raises(IntegrityError, match="Receipt receipts/fraud"):
        _require(lake)


def _alter_object(lake: Lake) -> None:
    lake.objects.put("reports/fraud/x.html", b"Fine")


def _delete_object(lake: Lake) -> None:
    lake.objects.delete("reports/fraud/x.html")


def _alter_table_file(lake: Lake) -> None:
    (file,) = lake.objects.list(f"raw/fraud/day={DAY}")
    lake.objects.put(file, lake.objects.get(file) + b"x")


def _replace_day(lake: Lake) -> None:
    lake.table("raw", "fraud").replace_day(DAY, pa.table({"value": [2]}))


@pytest.mark.parametrize(
    ("alter", "error"),
    [
        (_alter_object, IntegrityError),
        (_delete_object, NotFound),
        (_alter_table_file, IntegrityError),
        (_replace_day, IntegrityError),
    ],
)
def test_output_that_is_not_as_recorded_is_never_green(
    alter: Callable[[Lake], None], error: type[Exception], lake: Lake, make_receipt: Callable[..., Receipt]
) -> None:
    write_receipt(lake, make_receipt())
    _require(lake)
    alter(lake)
    with pytest.raises(error):
        _require(lake)


def test_receipts_of_a_run_come_oldest_first(lake: Lake, make_receipt: Callable[..., Receipt]) -> None:
    start = datetime(2026, 11, 2, tzinfo=UTC)
    told = [("b", 1, 0), ("a", 1, 1), ("a", 2, 2), ("c", 1, 2)]
    for task, attempt, minute in reversed(told):
        write_receipt(lake, make_receipt(task=task, attempt=attempt, started_at=start + timedelta(minutes=minute)))
    write_receipt(lake, make_receipt(run="manual__1"))
    found = read_receipts(lake, "fraud", RUN)
    assert [(r.task, r.attempt, (r.started_at - start).seconds // 60) for r in found] == told
    assert read_receipts(lake, "fraud", "manual__2") == []


@pytest.mark.parametrize("name", ["..", ".", "a/../../b", "a b", "ä/ö", "x" * 200, ""])
def test_path_stays_in_its_folder_whatever_the_names_are(
    name: str, lake: Lake, make_receipt: Callable[..., Receipt]
) -> None:
    path = write_receipt(lake, make_receipt(run=name, task=name))
    assert posixpath.normpath(path).startswith("receipts/fraud/")
    assert path.count("/") == 4
    assert _require(lake, run=name, task=name).run == name
    assert [r.run for r in read_receipts(lake, "fraud", name)] == [name]
