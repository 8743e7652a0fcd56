"""What a contract's types are in frames."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

COLUMN_TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}
