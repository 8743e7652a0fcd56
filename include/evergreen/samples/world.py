"""The sample world: who lives in it, which cards they hold, and the merchants they may visit."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.catalogue import CASH_OUT_MCCS, CATEGORIES, COUNTRIES, NEW_CATEGORIES, Country
from evergreen.samples.randomness import Bools, Floats, Ints, draw, draw_within, generator

CARDS_PER_DAILY_ROW: Final = 0.4
CUSTOMERS_PER_CARD: Final = 0.8
MERCHANTS_PER_DAILY_ROW: Final = 0.1
MIN_MERCHANTS_PER_COUNTRY: Final = 24
NEWCOMER_EVERY: Final = 6
"""Every sixth merchant of a country opens only with a shift."""
ZIPF_EXPONENT: Final = 0.8
FAVOURITES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Merchants:
    """Merchants sorted by country; every array has one value a merchant."""

    ids: pl.Series
    country: Ints
    category: Ints
    """Position in `ALL_CATEGORIES`."""
    everyday: Floats
    """Running sum of popularity among merchants of ordinary times."""
    newcomers: Floats
    """Running sum of popularity among those that open with a shift."""
    online: Floats
    """Running sum of online popularity in ordinary times."""
    cash_out: Floats
    """Running number of online sellers of goods that are easy to sell on; thieves do not mind small shops."""
    country_start: Ints
    """Where each country's merchants begin; one value a country, and the end as the last."""

    def draw_in(self, rng: np.random.Generator, cumulative: Floats, country: Ints) -> Ints:
        """One merchant of each given country, drawn by the popularity summed up in `cumulative`."""
        return draw_within(rng, cumulative, self.country_start, country)


@dataclass(frozen=True, kw_only=True)
class Customers:
    """Card holders sorted by home country; every array has one value a customer."""

    ids: pl.Series
    home: Ints
    """Position in COUNTRIES."""
    log_spend: Floats
    """How far the customer's usual amounts lie from a category's median, in log units."""
    spread: Floats
    """Standard deviation of the log of the customer's amounts."""
    taps: Floats
    """Chance that a small purchase in a shop is contactless."""
    pays_by_phone: Bools
    devices: Ints
    """Number of devices the customer shops with."""
    phase: Ints
    """Days by which the customer's trips and new devices are offset from everyone else's."""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Cards sorted by home country; every array has one value a card."""

    ids: pl.Series
    customer: Ints
    activity: Floats
    """Running sum of how often the card is used."""
    favourites: Ints
    """[cards, FAVOURITES] merchants, the most visited first."""
    country_start: Ints
    """Where each country's cards begin; one value a country, and the end as the last."""

    def draw_in(self, rng: np.random.Generator, country: Ints) -> Ints:
        """One card of each given home country, drawn by how often it is used."""
        return draw_within(rng, self.activity, self.country_start, country)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that stays the same from day to day for one seed and size."""

    seed: int
    merchants: Merchants
    customers: Customers
    cards: Cards


ALL_CATEGORIES: Final = CATEGORIES + NEW_CATEGORIES


@lru_cache(maxsize=2)
def build_world(seed: int, rows_per_day: int) -> World:
    """The world of this seed, sized so that a card is used two or three times a day; the last two are kept."""
    rng = generator(seed, "world")
    num_cards = max(200, int(rows_per_day * CARDS_PER_DAILY_ROW))
    merchants = _build_merchants(rng, int(rows_per_day * MERCHANTS_PER_DAILY_ROW))
    customers = _build_customers(rng, max(100, int(num_cards * CUSTOMERS_PER_CARD)))
    return World(
        seed=seed, merchants=merchants, customers=customers, cards=_build_cards(rng, num_cards, customers, merchants)
    )


def _build_merchants(rng: np.random.Generator, wanted: int) -> Merchants:
    counts = np.maximum(np.round(_shares(COUNTRIES) * wanted), MIN_MERCHANTS_PER_COUNTRY).astype(np.int64)
    country = np.repeat(np.arange(len(COUNTRIES)), counts)
    starts = np.concatenate([[0], np.cumsum(counts)])
    rank = np.arange(len(country)) - starts[country]
    newcomer = rank % NEWCOMER_EVERY == NEWCOMER_EVERY - 1
    category = np.where(
        newcomer, _draw_categories(rng, newcomer.size, new=True), _draw_categories(rng, newcomer.size, new=False)
    )
    popularity = (rank + 3.0) ** -ZIPF_EXPONENT
    online = popularity * ~newcomer * np.array([c.online_share for c in ALL_CATEGORIES])[category]
    sellable = np.array([c.mcc in CASH_OUT_MCCS for c in ALL_CATEGORIES])[category]
    return Merchants(
        ids=_numbered("m", len(country), 6),
        country=country,
        category=category,
        everyday=np.cumsum(popularity * ~newcomer),
        newcomers=np.cumsum(popularity * newcomer),
        online=np.cumsum(online),
        cash_out=np.cumsum((online > 0) & sellable, dtype=np.float64),
        country_start=starts,
    )


def _draw_categories(rng: np.random.Generator, size: int, *, new: bool) -> Ints:
    shares = np.array([c.visit_share for c in ALL_CATEGORIES])
    shares[slice(0, len(CATEGORIES)) if new else slice(len(CATEGORIES), None)] = 0.0
    return draw(rng, np.cumsum(shares), size)


def _build_customers(rng: np.random.Generator, size: int) -> Customers:
    return Customers(
        ids=_numbered("u", size, 7),
        home=np.sort(draw(rng, np.cumsum(_shares(COUNTRIES)), size)),
        log_spend=rng.normal(0.0, 0.5, size),
        spread=rng.uniform(0.35, 0.75, size),
        taps=rng.beta(3.0, 1.2, size),
        pays_by_phone=rng.random(size) < 0.5,
        devices=rng.choice(np.array([1, 2, 3]), size, p=[0.5, 0.35, 0.15]),
        phase=rng.integers(0, 5000, size),
    )


def _build_cards(rng: np.random.Generator, size: int, customers: Customers, merchants: Merchants) -> Cards:
    owners = len(customers.home)
    customer = np.sort(np.concatenate([np.arange(owners), rng.integers(0, owners, size - owners)]))
    home = customers.home[customer]
    return Cards(
        ids=_numbered("c", size, 7),
        customer=customer,
        activity=np.cumsum(rng.gamma(1.6, 1.0, size) + 0.05),
        favourites=merchants.draw_in(rng, merchants.everyday, np.repeat(home, FAVOURITES)).reshape(size, FAVOURITES),
        country_start=np.searchsorted(home, np.arange(len(COUNTRIES) + 1)).astype(np.int64),
    )


def _shares(countries: tuple[Country, ...]) -> Floats:
    return np.array([country.share for country in countries])


def _numbered(prefix: str, size: int, digits: int) -> pl.Series:
    return pl.select(pl.format(prefix + "{}", pl.int_range(size).cast(pl.String).str.zfill(digits))).to_series()
