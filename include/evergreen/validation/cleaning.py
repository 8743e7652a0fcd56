"""Mending before judging: trim, case, casts, duplicates, and which version of an event holds when.

Everything works on whole columns and is idempotent: cleaning clean rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from evergreen.pipeline import Contract, Pipeline
from evergreen.validation.casts import TYPES, as_text, cast

UNREAD = ".unread"
"""Ending of the column that keeps the text of values that could not be cast; no contract column has a dot."""
TIMES = ("event_time", "known_at")
RULES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "trim": lambda text: text.str.strip_chars(),
    "empty_is_null": lambda text: pl.when(text != "").then(text),
    "upper": lambda text: text.str.to_uppercase(),
    "lower": lambda text: text.str.to_lowercase(),
}
"""In the order in which they are applied."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """Rows after cleaning, and what it took."""

    rows: pl.DataFrame
    """Contract columns in contract types, `<column>.unread` where a cast was tried, event_time, known_at;
    sorted by event_time, key, known_at."""
    counts: dict[str, int]
    """Values each rule changed (`mcc: trim`, `amount: cast`), and `duplicates`: rows dropped."""


def clean(pipeline: Pipeline, rows: pl.DataFrame) -> Cleaned:
    """The rows after every cleaning rule: trim, empty_is_null, upper, lower, casts, duplicates.

    `rows` has the contract's columns in any type, event_time and known_at; row order does not matter.
    """
    contract = pipeline.contract
    mended, counts = _mend(pipeline, rows)
    typed, casts = _cast(contract, mended)
    ordered = typed.sort("event_time", contract.key, "known_at", nulls_last=True, maintain_order=True)
    distinct = _drop_duplicates(contract.key, ordered)
    return Cleaned(rows=distinct, counts=counts | casts | {"duplicates": ordered.height - distinct.height})


def supersede(key: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with superseded_at: known_at of the next version of the same key, null for the latest.

    Row order is kept; it decides between versions known at the same instant.
    """
    indexed = rows.drop("superseded_at", strict=False).with_row_index("row")
    versions = indexed.filter(pl.col(key).is_duplicated()).sort(key, "known_at", "row")
    later = versions.select(
        "row", superseded_at=pl.col("known_at").shift(-1).over(key, mapping_strategy="group_to_rows")
    )
    return indexed.join(later, on="row", how="left", maintain_order="left").drop("row")


def _mend(pipeline: Pipeline, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    counts: dict[str, int] = {}
    for rule, mend in RULES.items():
        columns: tuple[str, ...] = getattr(pipeline.cleaning, rule)
        for column in columns:
            before = rows[column]
            if before.dtype == pl.String:
                rows = rows.with_columns(mend(pl.col(column)))
            counts[f"{column}: {rule}"] = int(before.ne_missing(rows[column]).sum())
    return rows, counts


def _cast(contract: Contract, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows in contract types, and the number of values that were converted by column."""
    counts: dict[str, int] = {}
    columns: list[pl.Expr] = []
    for name, spec in contract.columns.items():
        found = rows.schema[name]
        typed = cast(name, found, spec)
        columns.append(typed)
        if name + UNREAD in rows.columns:
            columns.append(pl.col(name + UNREAD))
        elif found != TYPES[spec.type] or found.is_float():
            unread = pl.when(pl.col(name).is_not_null() & typed.is_null()).then(as_text(name, found))
            columns.append(unread.alias(name + UNREAD))
        if found != TYPES[spec.type]:
            counts[f"{name}: cast"] = rows[name].len() - rows[name].null_count()
    times = [pl.col(name).cast(TYPES["timestamp"]) for name in TIMES]
    return rows.select(*columns, *times), counts


def _drop_duplicates(key: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without those that repeat the version of their key known just before.

    Only consecutive versions count: a value that changes and changes back makes three versions. Rows
    without a key or without known_at are nobody's version: they stay, and no other row repeats them.
    """
    indexed = rows.with_row_index("row")
    versions = indexed.drop_nulls([key, "known_at"])
    repeated = versions.filter(pl.col(key).is_duplicated()).sort(key, "known_at", "row")
    values = pl.col([c for c in rows.columns if c != "known_at"])
    same = repeated.select("row", same=pl.all_horizontal(values.eq_missing(values.shift(1))))
    dropped = same.filter("same")
    return indexed.join(dropped, on="row", how="anti", maintain_order="left").drop("row")
