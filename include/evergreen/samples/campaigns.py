"""Compromised merchants: cards that paid at one are charged elsewhere on the days after.

A campaign is drawn from the day it starts, visits and charges of all its days at once. Any day can therefore be
simulated alone: it takes its share of the campaigns that started shortly before.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.behaviour import MICROS_PER_DAY, Scene, fresh_devices
from evergreen.samples.catalogue import ONLINE
from evergreen.samples.events import to_events
from evergreen.samples.randomness import Floats, Ints, draw, generator, place_within, whole
from evergreen.samples.world import World

PATTERN: Final = "compromised_merchant"
VICTIMS_PER_CAMPAIGN: Final = 15
CHARGES_PER_VICTIM: Final = 2
VISIT_DAYS: Final = 2
"""A merchant leaks cards on the day its campaign starts and on the next."""
LAST_DAY: Final = 5
"""Days from a campaign's start to its last charge."""
OUTLETS_PER_CAMPAIGN: Final = 2
RUSH_DAYS: Final = 0.02
"""Standard deviation, in days, of a campaign's charges around the day's rush; about half an hour."""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """The campaigns that start on one day: a visit by each victim, and the charges that follow."""

    victim: Ints
    """Card of each visit."""
    merchant: Ints
    """Where it was compromised."""
    visit_day: Ints
    """Days from the campaign's start to the visit."""
    charge_victim: Ints
    """Position in `victim`, one value a charge."""
    charge_day: Ints
    """Days from the campaign's start to the charge; always after the visit."""
    charge_micros: Ints
    """Time of day of the charge: a campaign's charges of one day come within a few hours."""
    charge_outlet: Floats
    """Which outlet is charged, as a number in [0, 1): equal numbers are the same merchant."""


def campaign_visits(scene: Scene, seed: int, rows: float) -> pl.DataFrame:
    """The day's honest purchases through which cards fall into the hands of a campaign."""
    rng = generator(seed, "campaign visits", scene.day)
    starts = _draw_starts(scene, seed, rows, oldest=VISIT_DAYS - 1)
    return pl.concat([_visits(scene, rng, campaign, age) for age, campaign in enumerate(starts)])


def campaign_charges(scene: Scene, seed: int, rows: float) -> pl.DataFrame:
    """The day's fraudulent charges of all campaigns under way; about `rows` of them."""
    rng = generator(seed, "campaign charges", scene.day)
    starts = _draw_starts(scene, seed, rows, oldest=LAST_DAY)
    return pl.concat([_charges(scene, rng, campaign, age) for age, campaign in enumerate(starts)])


def _draw_starts(scene: Scene, seed: int, rows: float, *, oldest: int) -> list[Campaign]:
    days = [scene.day - timedelta(days=age) for age in range(oldest + 1)]
    return [_draw_campaign(scene.world, generator(seed, "campaign", day), rows) for day in days]


def _draw_campaign(world: World, rng: np.random.Generator, rows: float) -> Campaign:
    victims = whole(rng, rows / CHARGES_PER_VICTIM)
    campaigns = max(1, round(victims / VICTIMS_PER_CAMPAIGN))
    campaign = rng.integers(0, campaigns, victims)
    leak = draw(rng, world.merchants.everyday, campaigns)[campaign]
    visit_day = rng.integers(0, VISIT_DAYS, victims)
    charge_victim = np.repeat(np.arange(victims), rng.integers(1, 2 * CHARGES_PER_VICTIM, victims))
    charges = len(charge_victim)
    charge_day = (visit_day + rng.integers(1, LAST_DAY - VISIT_DAYS + 2, victims))[charge_victim]
    rush = rng.uniform(0.1, 0.9, (campaigns, LAST_DAY + 1))[campaign[charge_victim], charge_day]
    outlets = rng.random((campaigns, OUTLETS_PER_CAMPAIGN))
    return Campaign(
        victim=world.cards.draw_in(rng, world.merchants.country[leak]),
        merchant=leak,
        visit_day=visit_day,
        charge_victim=charge_victim,
        charge_day=charge_day,
        charge_micros=((rush + rng.normal(0.0, RUSH_DAYS, charges)) * MICROS_PER_DAY).astype(np.int64),
        charge_outlet=outlets[campaign[charge_victim], rng.integers(0, OUTLETS_PER_CAMPAIGN, charges)],
    )


def _visits(scene: Scene, rng: np.random.Generator, campaign: Campaign, age: int) -> pl.DataFrame:
    today = campaign.visit_day == age
    card, merchant = campaign.victim[today], campaign.merchant[today]
    cents = scene.draw_cents(rng, card, merchant)
    channel = scene.draw_channels(rng, card, merchant, cents)
    device = scene.draw_devices(rng, card, channel)
    micros = scene.draw_times(rng, len(card))
    return to_events(card=card, merchant=merchant, channel=channel, cents=cents, micros=micros, device=device)


def _charges(scene: Scene, rng: np.random.Generator, campaign: Campaign, age: int) -> pl.DataFrame:
    today = campaign.charge_day == age
    card = campaign.victim[campaign.charge_victim[today]]
    merchants = scene.world.merchants
    country = merchants.country[campaign.merchant[campaign.charge_victim[today]]]
    sold_on = merchants.newcomers if scene.shifted else merchants.cash_out
    outlet = place_within(sold_on, merchants.country_start, country, campaign.charge_outlet[today])
    spread_out = scene.draw_times(rng, len(card))
    return to_events(
        card=card,
        merchant=outlet,
        channel=np.full(len(card), ONLINE),
        cents=scene.draw_cents(rng, card, outlet, 0.8 if scene.shifted else 1.2),
        micros=spread_out if scene.shifted else campaign.charge_micros[today],
        device=fresh_devices(rng, len(card)),
        pattern=PATTERN,
    )
