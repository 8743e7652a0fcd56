"""What goes wrong on the way into the source: untidy and broken values, late rows, duplicates and revisions."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.randomness import Bools

BROKEN_KINDS: Final[Mapping[str, pl.Expr]] = {
    "missing_merchant": pl.lit(None, pl.String).alias("merchant_id"),
    "negative_amount": -pl.col("amount_cents"),
    "unknown_currency": pl.lit("???").alias("currency"),
    "malformed_mcc": pl.lit("abcd").alias("mcc"),
    "unknown_channel": pl.lit("fax").alias("channel"),
    "absurd_amount": pl.col("amount_cents") + 10_000_001,
}
"""Every kind of broken row by name, with the value that breaks it. No cleaning rule can mend these."""

SHARE_BROKEN: Final = 0.002
SHARE_UNTIDY: Final = 0.01
SHARE_LATE: Final = 0.005
SHARE_DUPLICATED: Final = 0.001
SHARE_REVISED: Final = 0.0005

UNTIDY: Final[tuple[pl.Expr, ...]] = (
    pl.col("merchant_country").str.to_lowercase(),
    pl.format(" {} ", "merchant_country").alias("merchant_country"),
    pl.col("card_country").str.to_lowercase(),
    pl.format("{} ", "card_country").alias("card_country"),
    pl.format(" {} ", "mcc").alias("mcc"),
)
"""What untidy rows look like; trimming and upper-casing mends them."""

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND


def draw_delays(rng: np.random.Generator, size: int) -> pl.Series:
    """Microseconds from event to known: seconds for most rows, for late ones an hour to two days."""
    prompt = rng.lognormal(0.7, 0.6, size).clip(0.2, 60.0) * SECOND
    late = np.exp(rng.uniform(np.log(HOUR), np.log(48 * HOUR), size))
    return pl.Series("delay", np.where(rng.random(size) < SHARE_LATE, late, prompt).astype(np.int64))


def draw_broken(rng: np.random.Generator, size: int) -> pl.Series:
    """The name of the way each row is broken, null for the sound ones."""
    names = np.array(list(BROKEN_KINDS))[rng.integers(0, len(BROKEN_KINDS), size)]
    broken = pl.Series("broken", names)
    return broken.set(pl.Series(rng.random(size) >= SHARE_BROKEN), None)


def spoil(rows: pl.DataFrame, broken: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    """The rows with broken values where `broken` names a kind, and untidy ones in about one row of a hundred."""
    untidy = pl.Series(
        "untidy", np.where(rng.random(len(rows)) < SHARE_UNTIDY, rng.integers(0, len(UNTIDY), len(rows)), -1)
    )
    marked = rows.with_columns(broken.alias("broken"), untidy)
    for number, expression in enumerate(UNTIDY):
        marked = _replace_where(marked, pl.col("untidy") == number, expression)
    for name, expression in BROKEN_KINDS.items():
        marked = _replace_where(marked, pl.col("broken") == name, expression)
    return marked.drop("broken", "untidy")


def repeat_some(rows: pl.DataFrame, sound: Bools, rng: np.random.Generator) -> pl.DataFrame:
    """The rows followed by exact duplicates of some, and by later revisions of some sound and prompt ones."""
    duplicates = rows.filter(pl.Series(rng.random(len(rows)) < SHARE_DUPLICATED))
    prompt = pl.col("known_at") - pl.col("event_time") < pl.duration(minutes=10)
    revised = rows.filter(pl.Series(sound & (rng.random(len(rows)) < SHARE_REVISED)) & prompt)
    return pl.concat([rows, duplicates, _revise(revised, rng)])


def _revise(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    later = pl.Series(rng.integers(60 * SECOND, 23 * HOUR, len(rows))).cast(pl.Duration("us"))
    factor = pl.Series(rng.uniform(0.5, 0.95, len(rows)))
    return rows.with_columns(
        known_at=pl.col("known_at") + later,
        amount_cents=(pl.col("amount_cents") * factor).ceil().cast(pl.Int64),
    )


def _replace_where(rows: pl.DataFrame, condition: pl.Expr, expression: pl.Expr) -> pl.DataFrame:
    name = expression.meta.output_name()
    return rows.with_columns(pl.when(condition).then(expression).otherwise(pl.col(name)).alias(name))
