"""How a value becomes the contract's type, as Polars expressions: exactly, or not at all.

Nothing is rounded, wrapped or guessed; what cannot be read exactly is null, and the caller sees that.
Each function answers for a value already of its type too, which it leaves as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from evergreen.pipeline import ColumnSpec

TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}
TRUTH: Mapping[str, bool] = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
UNZONED = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")
LARGEST_INTEGER = float(2**63)


def cast(column: str, found: pl.DataType, spec: ColumnSpec) -> pl.Expr:
    """The column of type `found` in the contract's type; null where a value cannot be read exactly.

    Text is read without surrounding space; a time without a zone is UTC; NaN is not a number.
    """
    if spec.type == "string":
        return as_text(column, found)
    if found == pl.Null():
        return pl.lit(None, TYPES[spec.type]).alias(column)
    value = pl.col(column).str.strip_chars() if found == pl.String() else pl.col(column)
    read = {"integer": _integer, "float": _float, "boolean": _boolean, "timestamp": _timestamp}[spec.type]
    return read(value, found).alias(column)


def as_text(column: str, found: pl.DataType) -> pl.Expr:
    """The column as text; instants in ISO 8601 with their offset."""
    if isinstance(found, pl.Datetime):
        return pl.col(column).dt.to_string("iso:strict")
    return pl.col(column).cast(pl.String)


def _integer(value: pl.Expr, found: pl.DataType) -> pl.Expr:
    if found.is_float():
        whole = (value == value.round(0)) & (value >= -LARGEST_INTEGER) & (value < LARGEST_INTEGER)
        return pl.when(whole).then(value).cast(pl.Int64, strict=False)
    if found.is_temporal():
        return pl.lit(None, pl.Int64)
    return value.cast(pl.Int64, strict=False)


def _float(value: pl.Expr, found: pl.DataType) -> pl.Expr:
    if found.is_temporal():
        return pl.lit(None, pl.Float64)
    return value.cast(pl.Float64, strict=False).fill_nan(None)


def _boolean(value: pl.Expr, found: pl.DataType) -> pl.Expr:
    if found == pl.String():
        words = value.str.to_lowercase()
        return words.replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
    if found.is_numeric():
        return pl.when(value == 1).then(True).when(value == 0).then(False)
    return value if found == pl.Boolean() else pl.lit(None, pl.Boolean)


def _timestamp(value: pl.Expr, found: pl.DataType) -> pl.Expr:
    if found == pl.String():
        zoned = [value.str.to_datetime(f, time_unit="us", strict=False) for f in ZONED]
        unzoned = [value.str.to_datetime(f, time_unit="us", strict=False) for f in UNZONED]
        day = value.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        return pl.coalesce(*zoned, *(u.dt.replace_time_zone("UTC") for u in (*unzoned, day)))
    return value if isinstance(found, pl.Datetime) else pl.lit(None, TYPES["timestamp"])
