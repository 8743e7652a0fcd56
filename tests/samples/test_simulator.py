from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest

from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import SampleDay, clean_requests, simulate_day
from evergreen.samples.world import build_world

DAY = date(2026, 10, 7)
SMALL = SampleConfig(rows_per_day=2_000)


def same(left: SampleDay, right: SampleDay) -> bool:
    return all(getattr(left, name).equals(getattr(right, name)) for name in ("transactions", "chargebacks", "truth"))


def test_a_day_is_the_same_whatever_was_simulated_before() -> None:
    alone = simulate_day(SMALL, DAY)
    simulate_day(SMALL, DAY + timedelta(days=3))
    build_world.cache_clear()
    assert same(alone, simulate_day(SMALL, DAY))


def test_seed_and_day_change_the_rows() -> None:
    alone = simulate_day(SMALL, DAY)
    assert not same(alone, simulate_day(SampleConfig(seed=8, rows_per_day=2_000), DAY))
    assert not same(alone, simulate_day(SMALL, DAY + timedelta(days=7)))


def test_days_before_a_shift_do_not_depend_on_it() -> None:
    coming = SampleConfig(rows_per_day=2_000, shift_from=DAY + timedelta(days=1))
    assert same(simulate_day(SMALL, DAY), simulate_day(coming, DAY))
    assert not same(
        simulate_day(SMALL, DAY + timedelta(days=1)),
        simulate_day(coming, DAY + timedelta(days=1)),
    )


def test_every_event_lies_within_its_day(month: list[SampleDay]) -> None:
    start = datetime.combine(date(2026, 10, 5), time(), tzinfo=UTC)
    times = month[0].transactions["event_time"]
    assert times.is_sorted()
    assert start <= times.min() < start + timedelta(minutes=10)
    assert start + timedelta(hours=23, minutes=50) < times.max() < start + timedelta(days=1)


@pytest.mark.parametrize("rows_per_day", [200, 1_000, 60_000])
def test_the_asked_number_of_rows_comes_within_six_per_cent(rows_per_day: int) -> None:
    config = SampleConfig(rows_per_day=rows_per_day)
    days = [simulate_day(config, DAY + timedelta(days=number)) for number in range(3)]
    assert all(abs(day.transactions.height - rows_per_day) <= rows_per_day * 0.06 + 12 for day in days)


def test_about_one_row_in_two_hundred_is_fraud_of_four_patterns(ordinary: pl.DataFrame) -> None:
    assert 0.0045 < ordinary["is_fraud"].mean() < 0.0055
    shares = ordinary.filter("is_fraud")["pattern"].value_counts(normalize=True)
    assert dict(shares.iter_rows()) == {
        "burst": pytest.approx(0.36, abs=0.05),
        "compromised_merchant": pytest.approx(0.30, abs=0.05),
        "out_of_habit": pytest.approx(0.16, abs=0.05),
        "takeover": pytest.approx(0.18, abs=0.05),
    }


def test_each_fraud_and_nothing_else_is_charged_back(month: list[SampleDay]) -> None:
    for sample in month:
        frauds = sample.truth.filter("is_fraud")["transaction_id"]
        assert sorted(sample.chargebacks["transaction_id"]) == sorted(frauds)


def test_chargebacks_take_five_hours_to_three_days(month: list[SampleDay]) -> None:
    events = pl.concat([sample.transactions for sample in month]).unique("transaction_id", keep="first")
    reported = pl.concat([sample.chargebacks for sample in month]).join(events, on="transaction_id")
    days = (reported["reported_at"] - reported["event_time"]).dt.total_microseconds() / 86_400e6
    assert days.min() > 0.2
    assert days.max() <= 3.0
    assert (days <= 2.0).mean() > 0.85
    assert (days > 1.0).mean() > 0.5


def test_requests_are_the_sound_rows_once_tidy_and_in_order(month: list[SampleDay], config: SampleConfig) -> None:
    requests = clean_requests(config, date(2026, 10, 5))
    sound = month[0].truth.filter(pl.col("broken").is_null())["transaction_id"]
    assert requests["transaction_id"].to_list() == sound.to_list()
    assert requests["event_time"].is_sorted()
    assert requests["merchant_country"].str.contains(r"^[A-Z]{2}$").all()
    assert requests["mcc"].str.contains(r"^[0-9]{4}$").all()
    assert requests.schema == month[0].transactions.schema


def test_each_card_has_one_customer_and_one_country(ordinary: pl.DataFrame) -> None:
    owners = ordinary.group_by("card_id").agg(pl.n_unique("customer_id", "card_country"))
    assert owners.select(pl.max("customer_id", "card_country")).row(0) == (1, 1)


def test_devices_appear_where_the_channel_has_one(ordinary: pl.DataFrame) -> None:
    has_device = dict(ordinary.group_by("channel").agg(pl.col("device_id").is_not_null().mean()).iter_rows())
    assert has_device["online"] == 1.0
    assert has_device["chip"] == has_device["atm"] == 0.0
    assert 0.3 < has_device["contactless"] < 0.7
