"""Receipts: the last thing a task writes, and the proof that is asked for before it may be green."""

from __future__ import annotations

from pydantic import ValidationError

from evergreen.artifacts import Receipt
from evergreen.errors import IntegrityError, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.objects import require_digest


def receipt_path(pipeline: str, run: str, task: str, attempt: int) -> str:
    """Where the receipt of one try of one task lies; safe for run ids with colons and plus signs."""
    return f"receipts/{pipeline}/{_safe(run)}/{_safe(task)}/{attempt}.json"


def write_receipt(lake: Lake, receipt: Receipt) -> str:
    """The path at which `receipt` now lies."""
    path = receipt_path(receipt.pipeline, receipt.run, receipt.task, receipt.attempt)
    lake.objects.put(path, receipt.to_json().encode())
    return path


def read_receipts(lake: Lake, pipeline: str, run: str) -> list[Receipt]:
    """All receipts of a DAG run, oldest first; IntegrityError when one cannot be read."""
    paths = lake.objects.list(f"receipts/{pipeline}/{_safe(run)}")
    receipts = [_read(lake, path) for path in paths]
    return sorted(receipts, key=lambda r: (r.started_at, r.task, r.attempt))


def require_receipt(lake: Lake, pipeline: str, run: str, task: str, attempt: int) -> Receipt:
    """The receipt of this very try, after every output it names was verified to the byte.

    Raises NotFound when there is none, IntegrityError when it is another try's or an output differs.
    """
    path = receipt_path(pipeline, run, task, attempt)
    if not lake.objects.exists(path):
        raise NotFound(
            f"Receipt of {task}, try {attempt}",
            found=f"nothing at {path}",
            wanted="the proof that the task finished its work",
            remedy="The process ended before its work was done; see its log, then clear the task.",
        )
    receipt = _read(lake, path)
    if (receipt.pipeline, receipt.run, receipt.task, receipt.attempt) != (pipeline, run, task, attempt):
        raise IntegrityError(
            f"Receipt {path}",
            found=f"one of {receipt.run} {receipt.task} try {receipt.attempt}",
            wanted="one of this very try",
            remedy="Clear the task to run it again.",
        )
    verify_outputs(lake, receipt)
    return receipt


def verify_outputs(lake: Lake, receipt: Receipt) -> None:
    """Nothing, when every output is there as recorded; NotFound or IntegrityError otherwise."""
    for table_day in receipt.tables:
        lake.table(table_day.zone, table_day.pipeline).verify(table_day)
    for ref in receipt.objects:
        require_digest(ref.path, found=lake.objects.digest(ref.path), wanted=ref.digest)


def _read(lake: Lake, path: str) -> Receipt:
    try:
        return Receipt.from_json(lake.objects.get(path))
    except ValidationError as error:
        raise IntegrityError(
            f"Receipt {path}",
            found=f"{error.error_count()} errors in its JSON",
            wanted="what write_receipt wrote",
            remedy="Clear the task to run it again.",
            details=str(error),
        ) from error


def _safe(name: str) -> str:
    """A folder name for `name`; an underscore keeps `..` from meaning another folder."""
    safe = "".join(c if c.isalnum() or c in "-_.+=" else "_" for c in name)
    return safe if safe.strip(".") else f"_{safe}"
