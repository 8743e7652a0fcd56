"""Raw to clean: each day is cleaned, judged, and either published or refused; bad rows go to quarantine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
import pyarrow as pa

from evergreen.artifacts import CleanBatch, ObjectRef, RawBatch, TableDay
from evergreen.errors import ValidationFailed
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.pipeline import Contract, Pipeline
from evergreen.validation.casts import as_text
from evergreen.validation.cleaning import TIMES, UNREAD, clean, supersede
from evergreen.validation.judgement import Judgement, judge
from evergreen.validation.notes import note_judged, unjudged_days
from evergreen.validation.report import Report
from evergreen.validation.suite import evaluate

logger = logging.getLogger(__name__)

ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}
REASONS_SHOWN = 3
"""Reasons that the message of a refusal names; the report has them all."""


@dataclass(frozen=True, kw_only=True)
class ValidatedDay:
    """What became of one day."""

    clean: TableDay | None
    """None when the day was refused; what the clean zone had of it before is untouched."""
    quarantine: TableDay
    report: Report
    page: ObjectRef


def validate_day(pipeline: Pipeline, raw: RawBatch, lake: Lake) -> CleanBatch:
    """The raw days after cleaning and Great Expectations: `clean/`, with the refused rows in `quarantine/`.

    Days of the late window whose raw rows are others than were judged are judged again: a run that failed
    after it had read them left them so. Each day is judged alone; its quarantine, page
    and JSON are written whatever the verdict, its clean rows only when it passes. An earlier day that is
    refused is an error in the log and not among the batch's days. Raises ValidationFailed, after all days were
    judged, when the day itself was refused; ConfigurationError when an expectation is not one; NotFound or
    IntegrityError when a raw day is gone or was altered.
    """
    days = [_validate_latest(pipeline, raw_day, lake) for raw_day in raw.days]
    days += [_validate_latest(pipeline, raw_day, lake) for raw_day in unjudged_days(pipeline, raw.day, lake)]
    publish_days(lake, "clean", pipeline.pipeline)
    refused = [day.report for day in days if day.clean is None]
    if days[0].clean is None:
        raise _failure(refused)
    for report in refused:
        logger.error("%s", _failure([report]))
    return CleanBatch(
        pipeline=pipeline.pipeline,
        day=raw.day,
        days=tuple(day.clean for day in days if day.clean is not None),
        quarantine=tuple(day.quarantine for day in days),
        quarantined=dict(days[0].report.quarantined),
        cleaned=dict(days[0].report.cleaned),
        report=days[0].page,
    )


def refused_pages(batch: CleanBatch, lake: Lake) -> list[ObjectRef]:
    """The page of each earlier day that was refused: the batch has its quarantine and not its clean rows."""
    passed = {day.day for day in batch.days}
    paths = [report_path(batch.pipeline, day.day, "html") for day in batch.quarantine if day.day not in passed]
    return [ObjectRef(path=path, digest=lake.objects.digest(path)) for path in paths]


def report_path(pipeline: str, day: date, ending: str) -> str:
    """Where the page (`html`) or the result (`json`) of a day's validation lies in the lake."""
    return f"reports/{pipeline}/validation/{day.isoformat()}.{ending}"


def _validate_latest(pipeline: Pipeline, raw: TableDay, lake: Lake) -> ValidatedDay:
    """What became of the raw day, and a note that it was judged.

    Of two runs that judge a day at once, whoever judged the older rows sees that raw went on, and judges again.
    """
    table, judged = lake.table("raw", raw.pipeline), None
    while (now := table.day(raw.day) or raw).digest != judged:
        validated, judged = _validate(pipeline, raw, lake), now.digest
    note_judged(now, lake)
    return validated


def _validate(pipeline: Pipeline, raw: TableDay, lake: Lake) -> ValidatedDay:
    started = time.perf_counter()
    contract, name = pipeline.contract, pipeline.pipeline
    rows, absent = _read(contract, raw, lake)
    cleaned = clean(pipeline, rows)
    judged = cleaned.rows.select(*contract.columns, *TIMES)
    outcomes = evaluate(pipeline, judged)
    judgement = judge(pipeline, cleaned.rows, outcomes, absent)
    bad = _bad_rows(contract, cleaned.rows, judgement)
    good = supersede(contract.key, _good_rows(judged, judgement))
    revised = good.height - good["superseded_at"].null_count()
    report = Report(
        pipeline=pipeline,
        day=raw.day,
        rows={
            "raw": rows.height,
            "clean": good.height,
            "quarantined": bad.height,
            "duplicates": cleaned.counts["duplicates"],
        },
        problems=judgement.problems,
        quarantined=judgement.counts,
        cleaned=cleaned.counts | {"superseded": revised},
        outcomes=outcomes,
        quarantine=bad,
    )
    quarantine = lake.table("quarantine", name).replace_day(raw.day, _quarantine_table(contract, bad))
    lake.objects.put(report_path(name, raw.day, "json"), report.to_json())
    page = lake.objects.put(report_path(name, raw.day, "html"), report.to_html())
    published = lake.table("clean", name).replace_day(raw.day, _clean_table(contract, good)) if report.passed else None
    logger.info(
        "validated %s of %s: %s, %s, %.1f s",
        raw.day,
        name,
        "passed" if report.passed else f"refused ({'; '.join(report.problems)})",
        dict(report.rows),
        time.perf_counter() - started,
    )
    return ValidatedDay(clean=published, quarantine=quarantine, report=report, page=page)


def _read(contract: Contract, raw: TableDay, lake: Lake) -> tuple[pl.DataFrame, list[str]]:
    """The raw day as it is now, and the columns it lacks; those are there as nulls.

    A later run may have read the day again since `raw` was made: then the newer rows are judged, as
    raw only ever comes closer to the source.
    """
    rows = pl.DataFrame(lake.table("raw", raw.pipeline).read([raw.day]))
    absent = [name for name in (*contract.columns, *TIMES) if name not in rows.columns]
    return rows.with_columns(pl.lit(None).alias(name) for name in absent), absent


def _good_rows(rows: pl.DataFrame, judgement: Judgement) -> pl.DataFrame:
    numbered = rows.with_row_index("row").cast({"row": pl.Int64()})
    return numbered.join(judgement.reasons, on="row", how="anti", maintain_order="left").drop("row")


def _bad_rows(contract: Contract, rows: pl.DataFrame, judgement: Judgement) -> pl.DataFrame:
    """Bad rows with every contract column as text, unreadable values as they came."""
    bad = rows.with_row_index("row").cast({"row": pl.Int64()})
    bad = bad.join(judgement.reasons, on="row", how="inner", maintain_order="left")
    texts = [
        pl.coalesce(as_text(name, bad.schema[name]), *([name + UNREAD] if name + UNREAD in bad.columns else []))
        for name in contract.columns
    ]
    return bad.select(*(t.alias(n) for t, n in zip(texts, contract.columns, strict=True)), *TIMES, "reasons")


def _clean_table(contract: Contract, rows: pl.DataFrame) -> pa.Table:
    columns = {name: ARROW[spec.type] for name, spec in contract.columns.items()}
    return _table(rows, columns | dict.fromkeys((*TIMES, "superseded_at"), ARROW["timestamp"]))


def _quarantine_table(contract: Contract, rows: pl.DataFrame) -> pa.Table:
    columns = dict.fromkeys(contract.columns, pa.string()) | dict.fromkeys(TIMES, ARROW["timestamp"])
    return _table(rows, columns | {"reasons": pa.list_(pa.string())})


def _table(rows: pl.DataFrame, columns: dict[str, pa.DataType]) -> pa.Table:
    schema = pa.schema(columns)
    return rows.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)


def _failure(refused: Sequence[Report]) -> ValidationFailed:
    first = refused[0]
    counts = sorted(first.quarantined.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{reason}: {count}" for reason, count in counts[:REASONS_SHOWN])
    others = f", and {len(refused) - 1} more days" if refused[1:] else ""
    name = first.pipeline.pipeline
    return ValidationFailed(
        f"Day {first.day} of {name}",
        found="; ".join(first.problems) + (f" ({listed})" if listed else "") + others,
        wanted="a day that meets its expectations",
        remedy=f"Open {report_path(name, first.day, 'html')} and the quarantine table; mend the source or the spec, "
        "then ingest the day again. The clean zone keeps what it had of it.",
        details=json.dumps({str(r.day): {"problems": r.problems, "quarantined": r.quarantined} for r in refused}),
    )
