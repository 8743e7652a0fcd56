"""Which rows of a day are bad and why, and whether the day as a whole may pass. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.pipeline import Pipeline
from evergreen.validation.cleaning import UNREAD
from evergreen.validation.suite import Outcome

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A day's verdict."""

    reasons: pl.DataFrame
    """One row for each bad row: `row` (its position, ascending) and `reasons` (list of text, sorted)."""
    counts: Mapping[str, int]
    """Rows by reason, sorted by reason; a row with two reasons counts under both."""
    problems: tuple[str, ...]
    """Why the day is refused, in plain words; none when it passes."""


def judge(pipeline: Pipeline, rows: pl.DataFrame, outcomes: Sequence[Outcome], absent: Sequence[str] = ()) -> Judgement:
    """The verdict on cleaned rows, given what GX found; `absent` names contract columns the source lacked."""
    found = dict(_facts(pipeline, rows, outcomes, absent))
    for outcome in outcomes:
        if outcome.judges_rows and outcome.unexpected is not None:
            found[outcome.reason] = np.union1d(found.get(outcome.reason, _none()), outcome.unexpected)
    counts = {reason: len(found[reason]) for reason in sorted(found) if len(found[reason])}
    reasons = _by_row(found)
    problems = [f"column {column} is missing" for column in absent]
    problems += [p for outcome in outcomes if (p := outcome.problem) is not None]
    problems += _volume(pipeline, rows.height, reasons.height)
    return Judgement(reasons=reasons, counts=counts, problems=tuple(problems))


def _facts(
    pipeline: Pipeline, rows: pl.DataFrame, outcomes: Sequence[Outcome], absent: Sequence[str]
) -> Iterator[tuple[str, Rows]]:
    """Reasons that follow from the contract alone: absent columns, unreadable values, nulls."""
    watched = {o.columns for o in outcomes if o.judges_rows and o.expectation == "ExpectColumnValuesToNotBeNull"}
    required = {name for name, spec in pipeline.contract.columns.items() if not spec.nullable}
    for name in (*pipeline.contract.columns, "event_time", "known_at"):
        if name in absent:
            yield f"{name}: column missing", np.arange(rows.height)
            continue
        missing = rows[name].is_null()
        if name + UNREAD in rows.columns:
            unread = rows[name + UNREAD].is_not_null()
            yield f"{name}: not {_a(pipeline.contract.columns[name].type)}", _positions(unread)
            missing &= ~unread
        # A row without key or times has no place in history, whatever the spec allows.
        if (name in required and (name,) not in watched) or name in (pipeline.contract.key, "event_time", "known_at"):
            yield f"{name}: missing", _positions(missing)


def _volume(pipeline: Pipeline, rows: int, bad: int) -> Iterator[str]:
    validation = pipeline.validation
    if rows < validation.min_rows:
        yield f"{rows} rows are fewer than min_rows {validation.min_rows}"
    if rows and bad / rows > validation.max_bad_share:
        yield f"{bad} of {rows} rows are bad ({bad / rows:.2%}), more than max_bad_share {validation.max_bad_share:.2%}"


def _by_row(found: Mapping[str, Rows]) -> pl.DataFrame:
    schema = {"row": pl.Int64(), "reasons": pl.String()}
    frames = [
        pl.DataFrame({"row": positions}, schema={"row": pl.Int64()}).with_columns(reasons=pl.lit(reason))
        for reason, positions in found.items()
    ]
    long = pl.concat([pl.DataFrame(schema=schema), *frames])
    return long.group_by("row").agg(pl.col("reasons").sort()).sort("row")


def _positions(mask: pl.Series) -> Rows:
    return mask.arg_true().to_numpy().astype(np.int64)


def _none() -> Rows:
    return np.empty(0, np.int64)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
