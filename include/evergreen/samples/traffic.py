"""Honest traffic: everyday purchases, and the honest look-alikes of fraud, so that no one value gives fraud away."""

from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.behaviour import MICROS_PER_SECOND, Scene
from evergreen.samples.catalogue import ONLINE
from evergreen.samples.events import act_normally, to_events, unroll
from evergreen.samples.randomness import Ints, draw, whole

SHARE_SPREES: Final = 0.02
"""Rows that belong to an honest run of quick purchases."""
MEAN_SPREE: Final = 4
SHARE_FLASH_SALES: Final = 0.008
"""Rows that belong to a rush on one web shop."""
MEAN_FLASH_SALE: Final = 20
SHARE_BIG_PURCHASES: Final = 0.006
"""Everyday rows whose amount is far out of the holder's habit."""


def honest_traffic(scene: Scene, rng: np.random.Generator, size: int) -> pl.DataFrame:
    """About `size` honest events of the day, in no particular order."""
    special = [
        _shopping_sprees(scene, rng, size * SHARE_SPREES / 2),
        _online_sprees(scene, rng, size * SHARE_SPREES / 2),
        _flash_sales(scene, rng, size * SHARE_FLASH_SALES),
    ]
    everyday = _everyday(scene, rng, size - sum(frame.height for frame in special))
    return pl.concat([everyday, *special])


def _everyday(scene: Scene, rng: np.random.Generator, size: int) -> pl.DataFrame:
    big = rng.random(size) < SHARE_BIG_PURCHASES
    factor = np.where(big, np.exp(rng.uniform(1.2, 2.6, size)), 1.0)
    return act_normally(scene, rng, scene.draw_cards(rng, size), scene.draw_times(rng, size), factor=factor)


def _shopping_sprees(scene: Scene, rng: np.random.Generator, rows: float) -> pl.DataFrame:
    card, micros = _runs(scene, rng, rows, mean_gap_seconds=500.0)
    return act_normally(scene, rng, card, micros)


def _online_sprees(scene: Scene, rng: np.random.Generator, rows: float) -> pl.DataFrame:
    card, micros = _runs(scene, rng, rows, mean_gap_seconds=300.0)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.online, scene.home(card))
    channel = np.full(len(card), ONLINE)
    return to_events(
        card=card,
        merchant=merchant,
        channel=channel,
        cents=scene.draw_cents(rng, card, merchant),
        micros=micros,
        device=scene.draw_devices(rng, card, channel),
    )


def _runs(scene: Scene, rng: np.random.Generator, rows: float, *, mean_gap_seconds: float) -> tuple[Ints, Ints]:
    size = whole(rng, rows / MEAN_SPREE)
    counts = rng.integers(3, 2 * MEAN_SPREE - 2, size)
    run, micros = unroll(rng, scene.draw_times(rng, size), counts, mean_gap_seconds)
    return scene.draw_cards(rng, size)[run], micros


def _flash_sales(scene: Scene, rng: np.random.Generator, rows: float) -> pl.DataFrame:
    """Web shops that many people of the country buy from within the hour."""
    size = whole(rng, rows / MEAN_FLASH_SALE)
    counts = rng.integers(MEAN_FLASH_SALE // 2, MEAN_FLASH_SALE * 3 // 2, size)
    sale = np.repeat(np.arange(size), counts)
    merchants = scene.world.merchants
    shop = draw(rng, merchants.online, size)
    card = scene.world.cards.draw_in(rng, merchants.country[shop[sale]])
    begins = scene.draw_times(rng, size)
    channel = np.full(len(sale), ONLINE)
    return to_events(
        card=card,
        merchant=shop[sale],
        channel=channel,
        cents=scene.draw_cents(rng, card, shop[sale]),
        micros=begins[sale] + (rng.random(len(sale)) * 3600 * MICROS_PER_SECOND).astype(np.int64),
        device=scene.draw_devices(rng, card, channel),
    )
