"""One day of the sample source: a pure function of (seed, day, rows a day, shift)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.behaviour import MICROS_PER_DAY, Scene
from evergreen.samples.campaigns import campaign_charges, campaign_visits
from evergreen.samples.catalogue import CHANNELS, COUNTRIES, WEEKDAY_VOLUME
from evergreen.samples.config import SampleConfig
from evergreen.samples.defects import draw_broken, draw_delays, repeat_some, spoil
from evergreen.samples.events import LEGITIMATE
from evergreen.samples.fraud import SHARE_CAMPAIGN, SHARE_FRAUD, card_fraud
from evergreen.samples.randomness import generator, whole
from evergreen.samples.traffic import honest_traffic
from evergreen.samples.world import ALL_CATEGORIES, World, build_world

CHANNEL: Final = pl.Series(CHANNELS)
COUNTRY: Final = pl.Series([country.code for country in COUNTRIES])
CURRENCY: Final = pl.Series([country.currency for country in COUNTRIES])
MCC: Final = pl.Series([category.mcc for category in ALL_CATEGORIES])

INSTANT: Final = pl.Datetime("us", "UTC")
CHARGEBACK_REASON: Final = {
    "burst": "card_not_authorised",
    "compromised_merchant": "card_number_stolen",
    "out_of_habit": "not_my_purchase",
    "takeover": "account_taken_over",
}
MIN_CHARGEBACK_DAYS: Final = 0.2
MAX_CHARGEBACK_DAYS: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class SampleDay:
    """What the source will ever hold of one day, and the truth behind it."""

    transactions: pl.DataFrame
    """Columns of the table of that name, in order of event time, duplicates and revisions after their originals."""
    chargebacks: pl.DataFrame
    """transaction_id, reported_at, reason: one row for each fraud of the day, reported over the next three days."""
    truth: pl.DataFrame
    """transaction_id, is_fraud, pattern (null for honest), broken (a name of BROKEN_KINDS or null); one row an id."""


def simulate_day(config: SampleConfig, day: date) -> SampleDay:
    """The day's rows as the source receives them; equal arguments give equal rows, whatever was drawn before."""
    sound, truth = _sound_day(config, day)
    rng = generator(config.seed, "defects", day)
    spoiled = spoil(sound, truth["broken"], rng)
    return SampleDay(
        transactions=repeat_some(spoiled, truth["broken"].is_null().to_numpy(), rng).sort(
            "event_time", "known_at", maintain_order=True
        ),
        chargebacks=_chargebacks(generator(config.seed, "chargebacks", day), sound, truth),
        truth=truth,
    )


def clean_requests(config: SampleConfig, day: date) -> pl.DataFrame:
    """The day's sound transactions in event order, each once and tidy, as live clients send them for scoring.

    Ids are those of `simulate_day`, so that chargebacks and predictions meet. Revised rows have their first amount.
    """
    sound, truth = _sound_day(config, day)
    return sound.filter(truth["broken"].is_null())


def _sound_day(config: SampleConfig, day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    world = build_world(config.seed, config.rows_per_day)
    events = _draw_events(config, Scene(world=world, day=day, shifted=config.shifted_on(day)))
    rng = generator(config.seed, "arrival", day)
    rows = _name(world, day, events, draw_delays(rng, events.height))
    truth = rows.select(
        "transaction_id",
        is_fraud=pl.Series(events["pattern"] != LEGITIMATE),
        pattern=events["pattern"].replace(LEGITIMATE, None),
        broken=draw_broken(rng, events.height),
    )
    return rows, truth


def _draw_events(config: SampleConfig, scene: Scene) -> pl.DataFrame:
    rng = generator(config.seed, "traffic", scene.day)
    rows = whole(rng, config.rows_per_day * WEEKDAY_VOLUME[scene.day.weekday()] * rng.normal(1.0, 0.006))
    fraud_rows = config.rows_per_day * SHARE_FRAUD
    visits = campaign_visits(scene, config.seed, fraud_rows * SHARE_CAMPAIGN)
    honest = pl.concat([visits, honest_traffic(scene, rng, rows - visits.height - round(fraud_rows))])
    charges = campaign_charges(scene, config.seed, fraud_rows * SHARE_CAMPAIGN)
    return pl.concat([honest, charges, card_fraud(scene, rng, honest, fraud_rows)]).sort("micros", maintain_order=True)


def _name(world: World, day: date, events: pl.DataFrame, delay: pl.Series) -> pl.DataFrame:
    """The table's rows for events in event order, with ids, names and times."""
    category = world.merchants.category[events["merchant"].to_numpy()]
    country = world.merchants.country[events["merchant"].to_numpy()]
    customer = world.cards.customer[events["card"].to_numpy()]
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    event_time = pl.lit(midnight, INSTANT) + pl.col("micros").cast(pl.Duration("us"))
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(7)
    return events.select(
        transaction_id=pl.format(f"{day:%Y%m%d}-{{}}", number),
        card_id=world.cards.ids.gather(events["card"]),
        customer_id=world.customers.ids.gather(customer),
        merchant_id=world.merchants.ids.gather(events["merchant"]),
        amount_cents=pl.col("cents"),
        currency=CURRENCY.gather(country),
        mcc=MCC.gather(category),
        merchant_country=COUNTRY.gather(country),
        card_country=COUNTRY.gather(world.customers.home[customer]),
        channel=CHANNEL.gather(events["channel"]),
        device_id=pl.when(pl.col("device") > 0).then(pl.format("d{}", pl.col("device") % 10**12)),
        event_time=event_time,
        known_at=event_time + delay.cast(pl.Duration("us")),
    )


def _chargebacks(rng: np.random.Generator, rows: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """One chargeback for each fraud; half within 1.2 days, nearly nine in ten within two, none after three."""
    frauds = rows.select("transaction_id", "event_time").with_columns(truth["pattern"]).filter(truth["is_fraud"])
    days = MAX_CHARGEBACK_DAYS - rng.beta(2.8, 1.7, frauds.height) * (MAX_CHARGEBACK_DAYS - MIN_CHARGEBACK_DAYS)
    waiting = pl.Series((days * MICROS_PER_DAY).astype(np.int64)).cast(pl.Duration("us"))
    reported = frauds.select(
        "transaction_id",
        reported_at=pl.col("event_time") + waiting,
        reason=pl.col("pattern").replace_strict(CHARGEBACK_REASON, return_dtype=pl.String),
    )
    return reported.sort("reported_at", maintain_order=True)
