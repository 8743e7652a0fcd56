"""Ordinary days look alike; a shifted one plainly does not, and its fraud wears another face."""

from __future__ import annotations

import math

import polars as pl
import pytest

from evergreen.samples.simulator import SampleDay

COLUMNS = ["channel", "mcc", "currency", "merchant_country", "card_country", "hour", "amount", "has_device"]


def comparable(sample: SampleDay) -> pl.DataFrame:
    return sample.transactions.select(
        pl.col("channel", "currency"),
        pl.col("mcc").str.strip_chars(),
        pl.col("merchant_country", "card_country").str.strip_chars().str.to_uppercase(),
        hour=pl.col("event_time").dt.hour().cast(pl.String),
        amount=pl.col("amount_cents").clip(1).log(2).floor().cast(pl.String),
        has_device=pl.col("device_id").is_not_null().cast(pl.String),
    )


def psi(reference: pl.Series, current: pl.Series) -> float:
    """Population stability index over the values of at least 20 reference rows, or any of the current day's."""
    counts = reference.value_counts(name="r").join(
        current.value_counts(name="c"), on=reference.name, how="full", coalesce=True
    )
    counts = counts.fill_null(0.5).filter((pl.col("r") >= 20) | (pl.col("c") >= 20))
    expected, found = counts["r"] / counts["r"].sum(), counts["c"] / counts["c"].sum()
    return math.fsum((found - expected) * (found / expected).log())


def test_psi_is_that_of_a_hand_worked_example() -> None:
    reference, current = pl.Series("x", ["a"] * 50 + ["b"] * 50), pl.Series("x", ["a"] * 60 + ["b"] * 40)
    assert psi(reference, current) == pytest.approx(0.1 * math.log(1.2) - 0.1 * math.log(0.8))


@pytest.mark.parametrize("column", COLUMNS)
def test_every_ordinary_weekday_looks_like_the_two_weeks_before(column: str, month: list[SampleDay]) -> None:
    days = [comparable(sample)[column] for sample in month[:21]]
    assert max(psi(pl.concat(days[number - 14 : number]), days[number]) for number in range(14, 21)) < 0.02


@pytest.mark.parametrize("column", ["channel", "mcc", "has_device"])
def test_a_shifted_day_is_plainly_different(column: str, month: list[SampleDay]) -> None:
    before = pl.concat([comparable(sample)[column] for sample in month[:21]])
    assert psi(before, comparable(month[21])[column]) > 0.25


def test_amounts_inflate_by_about_forty_per_cent(month: list[SampleDay]) -> None:
    before, after = (day.transactions.filter(pl.col("mcc") == "5411")["amount_cents"].median() for day in month[20:22])
    assert 1.25 < after / before < 1.55


def test_shifted_bursts_are_mostly_slow_small_and_contactless(month: list[SampleDay]) -> None:
    bursts = pl.concat(
        [
            sample.transactions.unique("transaction_id").join(
                sample.truth.filter(pl.col("pattern") == "burst", pl.col("broken").is_null()), on="transaction_id"
            )
            for sample in month[21:]
        ]
    )
    drips = bursts.filter(pl.col("channel") == "contactless")
    assert 0.5 < drips.height / bursts.height < 0.9
    assert drips["amount_cents"].max() < 900
