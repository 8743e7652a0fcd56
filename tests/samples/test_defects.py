from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from evergreen.samples.defects import BROKEN_KINDS
from evergreen.samples.simulator import SampleDay

KEY = "transaction_id"
RECOGNISED = {
    "missing_merchant": pl.col("merchant_id").is_null(),
    "negative_amount": pl.col("amount_cents") < 0,
    "unknown_currency": pl.col("currency") == "???",
    "malformed_mcc": pl.col("mcc") == "abcd",
    "unknown_channel": ~pl.col("channel").is_in(["chip", "contactless", "online", "atm"]),
    "absurd_amount": pl.col("amount_cents") > 10_000_000,
}


@pytest.fixture(scope="module")
def rows(month: list[SampleDay]) -> pl.DataFrame:
    return pl.concat([sample.transactions for sample in month])


@pytest.fixture(scope="module")
def truth(month: list[SampleDay]) -> pl.DataFrame:
    return pl.concat([sample.truth for sample in month])


@pytest.mark.parametrize("kind", BROKEN_KINDS)
def test_a_broken_row_shows_its_kind_and_no_other_row_does(kind: str, rows: pl.DataFrame, truth: pl.DataFrame) -> None:
    broken = truth.filter(pl.col("broken") == kind)[KEY].unique().sort()
    assert len(broken) > 100
    assert rows.filter(RECOGNISED[kind])[KEY].unique().sort().equals(broken)


def test_two_rows_in_a_thousand_are_broken(truth: pl.DataFrame) -> None:
    assert 0.0017 < truth["broken"].is_not_null().mean() < 0.0023


def test_untidy_values_are_mended_by_trimming_and_upper_casing(rows: pl.DataFrame) -> None:
    values = rows.filter(pl.col("mcc") != "abcd").select("mcc", "merchant_country", "card_country")
    mended = values.select(pl.all().str.strip_chars().str.to_uppercase())
    assert mended["mcc"].str.contains(r"^[0-9]{4}$").all()
    assert mended["merchant_country"].n_unique() == mended["card_country"].n_unique() == 12
    changed = values.select(untidy=pl.any_horizontal(pl.col(name) != mended[name] for name in values.columns))
    assert 0.008 < changed["untidy"].mean() < 0.012


def test_late_rows_are_known_hours_to_two_days_after_and_others_within_a_minute(rows: pl.DataFrame) -> None:
    first = rows.group_by(KEY).agg((pl.col("known_at") - pl.col("event_time")).min().alias("delay"))
    late = first.filter(pl.col("delay") > timedelta(minutes=1))["delay"]
    assert 0.004 < len(late) / first.height < 0.006
    assert late.min() >= timedelta(hours=1)
    assert late.max() <= timedelta(days=2)
    assert first["delay"].min() > timedelta(0)


def test_one_row_in_a_thousand_comes_twice_exactly(rows: pl.DataFrame) -> None:
    copies = rows.height - rows.unique().height
    assert 0.0008 < copies / rows.height < 0.0013


def test_revisions_correct_the_amount_within_a_day(rows: pl.DataFrame) -> None:
    versions = rows.unique().sort("known_at").group_by(KEY, maintain_order=True)
    revised = versions.agg(pl.all()).filter(pl.col("known_at").list.len() == 2)
    assert 0.0003 < revised.height / rows.height < 0.0007
    assert (revised["event_time"].list.n_unique() == 1).all()
    assert (revised["amount_cents"].list.last() <= revised["amount_cents"].list.first()).all()
    waited = revised["known_at"].list.last() - revised["known_at"].list.first()
    assert timedelta(minutes=1) <= waited.min() <= waited.max() <= timedelta(days=1)
