"""What history reveals about fraud, and what a single row does not."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

CARD_HOUR = pl.col("transaction_id").count().rolling("event_time", period="1h").over("card_id") - 1


@pytest.mark.parametrize("column", ["channel", "mcc", "currency", "merchant_country", "card_country", "device"])
def test_no_single_value_gives_fraud_away(column: str, ordinary: pl.DataFrame) -> None:
    rows = ordinary.with_columns(device=pl.col("device_id").is_not_null())
    shares = rows.group_by(column).agg(pl.col("is_fraud").mean(), pl.len()).filter(pl.col("len") > 200)
    assert shares["is_fraud"].max() < 0.06


def test_many_quick_charges_on_a_card_are_suspicious_but_not_proof(ordinary: pl.DataFrame) -> None:
    quick = ordinary.sort("event_time").with_columns(before=CARD_HOUR).filter(pl.col("before") >= 3)
    assert 10 * ordinary["is_fraud"].mean() < quick["is_fraud"].mean() < 0.5
    assert quick.filter("is_fraud").height > 300


def test_victims_of_a_day_have_shopped_at_the_same_merchant_before(ordinary: pl.DataFrame) -> None:
    day = ordinary["event_time"].dt.truncate("1d")
    today = ordinary.filter(day == day.max())
    victims = today.filter(pl.col("pattern") == "compromised_merchant").select(pl.col("card_id").unique())
    week = ordinary.filter(
        day < day.max(), ordinary["event_time"] >= day.max() - timedelta(days=4), pl.col("pattern").is_null()
    )
    visits = week.join(victims, on="card_id").select("card_id", "merchant_id").unique()
    shared = visits["merchant_id"].value_counts().filter(pl.col("count") >= 2)["merchant_id"]
    explained = visits.filter(pl.col("merchant_id").is_in(shared.implode()))["card_id"].n_unique()
    assert explained / victims.height > 0.8


def test_charges_out_of_habit_exceed_the_cards_own_amounts(ordinary: pl.DataFrame) -> None:
    habit = ordinary.filter(~pl.col("is_fraud")).group_by("card_id").agg(usual=pl.median("amount_cents"))
    frauds = ordinary.filter(pl.col("pattern") == "out_of_habit").join(habit, on="card_id")
    assert (frauds["amount_cents"] / frauds["usual"]).median() > 5
    honest = ordinary.filter(~pl.col("is_fraud")).join(habit, on="card_id")
    ten_times_usual = honest.filter(pl.col("amount_cents") > 10 * pl.col("usual"))
    assert ten_times_usual.height > frauds.height


def test_takeovers_follow_an_honest_purchase_within_the_hour_abroad_on_a_new_device(ordinary: pl.DataFrame) -> None:
    rows = ordinary.sort("event_time").with_columns(
        waited=pl.col("event_time") - pl.col("event_time").shift(1).over("card_id"),
        device_uses=pl.len().over("card_id", "device_id"),
    )
    takeovers = rows.filter(pl.col("pattern") == "takeover")
    assert (takeovers["merchant_country"] != takeovers["card_country"]).all()
    assert (takeovers["device_uses"] == 1).all()
    assert (takeovers["waited"] <= timedelta(hours=1)).mean() > 0.99
