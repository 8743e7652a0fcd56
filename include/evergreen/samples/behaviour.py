"""How people behave: where, when, how and for how much they pay, in ordinary times and after a shift.

Each function answers one question for whole columns at once; the callers in traffic.py and fraud.py decide who asks.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np

from evergreen.samples.catalogue import ATM, CASH_MACHINES, CHIP, CONTACTLESS, COUNTRIES, HOURLY_VOLUME, ONLINE
from evergreen.samples.randomness import Floats, Hashes, Ints, draw, stable_hash, stable_uniform
from evergreen.samples.world import ALL_CATEGORIES, FAVOURITES, World

MICROS_PER_DAY: Final = 86_400_000_000
MICROS_PER_SECOND: Final = 1_000_000

NO_DEVICE: Final = np.uint64(0)

TRIP_DAYS: Final = 7
SHARE_TRAVELLING: Final = 0.04
DEVICE_LIFETIME_DAYS: Final = 120
SHARE_GUEST_DEVICE: Final = 0.03
"""Online purchases made on somebody else's device."""
SHARE_FAVOURITE: Final = 0.62
SHARE_FOREIGN_ONLINE: Final = 0.08

SHIFT_INFLATION: Final = 1.4
SHIFT_TO_NEWCOMERS: Final = 0.28
SHIFT_TO_ONLINE: Final = 0.35
"""Purchases in shops that move online with a shift."""
CONTACTLESS_LIMIT_CENTS: Final = 5_000

_MEDIAN: Final = np.array([c.median_cents for c in ALL_CATEGORIES], dtype=np.float64)
_ONLINE_SHARE: Final = np.array([c.online_share for c in ALL_CATEGORIES])
_IS_CASH: Final = np.array([c.mcc == CASH_MACHINES for c in ALL_CATEGORIES])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One day of one world: what every behaviour depends on besides chance."""

    world: World
    day: date
    shifted: bool

    def draw_cards(self, rng: np.random.Generator, size: int) -> Ints:
        """Cards by how often they are used."""
        return draw(rng, self.world.cards.activity, size)

    def draw_times(self, rng: np.random.Generator, size: int) -> Ints:
        """Microseconds since midnight UTC, by the hours' usual volume."""
        hour = draw(rng, np.cumsum(HOURLY_VOLUME), size)
        return ((hour + rng.random(size)) * (MICROS_PER_DAY // 24)).astype(np.int64)

    def home(self, card: Ints) -> Ints:
        """Each card's home country."""
        return self.world.customers.home[self.world.cards.customer[card]]

    def whereabouts(self, card: Ints) -> Ints:
        """The country each card holder is in today: home, or where a week's trip took them."""
        customer = self.world.cards.customer[card]
        week = (self.day.toordinal() + self.world.customers.phase[customer]) // TRIP_DAYS
        away = stable_uniform(self.world.seed, "travels", customer, week) < SHARE_TRAVELLING
        trip = stable_uniform(self.world.seed, "destination", customer, week)
        return np.where(away, other_country(self.home(card), trip), self.home(card))

    def draw_merchants(self, rng: np.random.Generator, card: Ints) -> Ints:
        """A favourite or a new find at home, a shop of the country visited, or a foreign web shop."""
        merchants, home, here = self.world.merchants, self.home(card), self.whereabouts(card)
        choice = np.minimum((rng.random(len(card)) ** 2 * FAVOURITES).astype(np.int64), FAVOURITES - 1)
        favourite = self.world.cards.favourites[card, choice]
        abroad = rng.random(len(card)) < SHARE_FOREIGN_ONLINE * (1 - SHARE_FAVOURITE)
        found_online = merchants.draw_in(rng, merchants.online, other_country(home, rng.random(len(card))))
        merchant = np.where(
            rng.random(len(card)) < SHARE_FAVOURITE, favourite, merchants.draw_in(rng, merchants.everyday, home)
        )
        merchant = np.where(abroad, found_online, merchant)
        on_the_road = (here != home) & (rng.random(len(card)) < 0.85)
        merchant = np.where(on_the_road, merchants.draw_in(rng, merchants.everyday, here), merchant)
        if not self.shifted:
            return merchant
        newcomer = rng.random(len(card)) < SHIFT_TO_NEWCOMERS
        return np.where(newcomer, merchants.draw_in(rng, merchants.newcomers, here), merchant)

    def usual_cents(self, card: Ints, merchant: Ints) -> Floats:
        """What the card's holder typically spends at a merchant of that category."""
        customers, customer = self.world.customers, self.world.cards.customer[card]
        median = _MEDIAN[self.world.merchants.category[merchant]]
        return median * np.exp(customers.log_spend[customer]) * (SHIFT_INFLATION if self.shifted else 1.0)

    def draw_cents(self, rng: np.random.Generator, card: Ints, merchant: Ints, factor: Floats | float = 1.0) -> Ints:
        """Log-normal amounts around `factor` times the customer's habit; at least 50 cents."""
        spread = self.world.customers.spread[self.world.cards.customer[card]]
        cents = self.usual_cents(card, merchant) * factor * np.exp(spread * rng.normal(size=len(card)))
        return np.maximum(np.round(cents), 50).astype(np.int64)

    def draw_channels(self, rng: np.random.Generator, card: Ints, merchant: Ints, cents: Ints) -> Ints:
        """Atm at cash machines, online at web shops and from afar; in shops contactless if small and liked, or chip."""
        customer, category = self.world.cards.customer[card], self.world.merchants.category[merchant]
        online = _ONLINE_SHARE[category] + self.shifted * SHIFT_TO_ONLINE * (1 - _ONLINE_SHARE[category])
        remote = self.world.merchants.country[merchant] != self.whereabouts(card)
        small = np.where(cents < CONTACTLESS_LIMIT_CENTS * (2 if self.shifted else 1), 1.0, 0.15)
        tap = np.maximum(self.world.customers.taps[customer], 0.9 * self.shifted) * small
        channel = np.where(rng.random(len(card)) < tap, CONTACTLESS, CHIP)
        channel = np.where(_IS_CASH[category], ATM, channel)
        return np.where((remote | (rng.random(len(card)) < online)) & ~_IS_CASH[category], ONLINE, channel)

    def draw_devices(self, rng: np.random.Generator, card: Ints, channel: Ints) -> Hashes:
        """The holder's own device online or as a phone wallet, sometimes a guest one; NO_DEVICE for plain cards."""
        customer = self.world.cards.customer[card]
        slot = (rng.random(len(card)) ** 1.5 * self.world.customers.devices[customer]).astype(np.int64)
        own = self._own_device(customer, np.where(channel == ONLINE, slot, 0))
        guest = rng.random(len(card)) < SHARE_GUEST_DEVICE
        device = np.where(guest & (channel == ONLINE), fresh_devices(rng, len(card)), own)
        phone = (channel == CONTACTLESS) & self.world.customers.pays_by_phone[customer]
        return np.where((channel == ONLINE) | phone, device, NO_DEVICE)

    def _own_device(self, customer: Ints, slot: Ints) -> Hashes:
        days = self.day.toordinal() + self.world.customers.phase[customer] * (slot + 1)
        return stable_hash(self.world.seed, "device", customer, slot, days // DEVICE_LIFETIME_DAYS)


def other_country(home: Ints, chance: Floats) -> Ints:
    """A country that is not home; `chance` in [0, 1) picks which."""
    return (home + 1 + (chance * (len(COUNTRIES) - 1)).astype(np.int64)) % len(COUNTRIES)


def fresh_devices(rng: np.random.Generator, size: int) -> Hashes:
    """Devices never seen before."""
    return rng.integers(1, 2**63, size, dtype=np.uint64)
