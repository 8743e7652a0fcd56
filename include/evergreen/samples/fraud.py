"""Fraud on single cards: bursts, charges out of habit, and takeovers, each with another face after a shift.

Compromised merchants, which need several days, live in campaigns.py.
"""

from typing import Final

import numpy as np
import polars as pl

from evergreen.samples.behaviour import (
    MICROS_PER_DAY,
    MICROS_PER_SECOND,
    NO_DEVICE,
    Scene,
    fresh_devices,
    other_country,
)
from evergreen.samples.catalogue import CHIP, CONTACTLESS, ONLINE
from evergreen.samples.events import to_events, unroll
from evergreen.samples.randomness import Ints, whole

SHARE_FRAUD: Final = 0.005
BURST, OUT_OF_HABIT, TAKEOVER = "burst", "out_of_habit", "takeover"
SHARE_BURST, SHARE_OUT_OF_HABIT, SHARE_TAKEOVER, SHARE_CAMPAIGN = 0.36, 0.16, 0.18, 0.30
"""Parts of all fraudulent rows."""
SHARE_KEPT_BY_SHIFT: Final = 0.3
"""Part of the fraud on single cards that a shift leaves as it was."""
MEAN_BURST: Final = 7
MINUTE: Final = 60 * MICROS_PER_SECOND


def card_fraud(scene: Scene, rng: np.random.Generator, honest: pl.DataFrame, rows: float) -> pl.DataFrame:
    """The day's fraud on single cards when all fraud together has about `rows` rows.

    `honest` holds the day's honest events: a takeover follows one of them.
    """
    kept = rows * SHARE_KEPT_BY_SHIFT if scene.shifted else rows
    changed = rows - kept
    return pl.concat(
        [
            _burst(scene, rng, kept * SHARE_BURST),
            _out_of_habit(scene, rng, whole(rng, kept * SHARE_OUT_OF_HABIT)),
            _takeover(scene, rng, honest, whole(rng, kept * SHARE_TAKEOVER)),
            _drip(scene, rng, changed * SHARE_BURST),
            _overspending(scene, rng, whole(rng, changed * SHARE_OUT_OF_HABIT)),
            _enrolment(scene, rng, honest, whole(rng, changed * SHARE_TAKEOVER)),
        ]
    )


def _burst(scene: Scene, rng: np.random.Generator, rows: float) -> pl.DataFrame:
    """Many quick charges on one card at web shops, before the holder notices."""
    run, card, micros = _sequences(scene, rng, rows, mean_gap_seconds=150.0)
    country = _sometimes_abroad(rng, scene.home(card), 0.2)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.online, country)
    return to_events(
        card=card,
        merchant=merchant,
        channel=np.full(len(card), ONLINE),
        cents=scene.draw_cents(rng, card, merchant, 1.3),
        micros=micros,
        device=fresh_devices(rng, len(card))[run],
        pattern=BURST,
    )


def _drip(scene: Scene, rng: np.random.Generator, rows: float) -> pl.DataFrame:
    """Small contactless charges over hours from a phone that enrolled the card."""
    run, card, micros = _sequences(scene, rng, rows, mean_gap_seconds=3600.0)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.everyday, scene.home(card))
    return to_events(
        card=card,
        merchant=merchant,
        channel=np.full(len(card), CONTACTLESS),
        cents=rng.integers(150, 900, len(card)),
        micros=micros,
        device=fresh_devices(rng, len(card))[run],
        pattern=BURST,
    )


def _out_of_habit(scene: Scene, rng: np.random.Generator, size: int) -> pl.DataFrame:
    """Single purchases of many times what the holder would spend."""
    card = scene.draw_cards(rng, size)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.online, scene.home(card))
    channel = np.where(rng.random(size) < 0.7, ONLINE, CHIP)
    own = scene.draw_devices(rng, card, channel)
    return to_events(
        card=card,
        merchant=merchant,
        channel=channel,
        cents=scene.draw_cents(rng, card, merchant, np.exp(rng.uniform(1.8, 3.0, size))),
        micros=_at_night_too(scene, rng, size),
        device=np.where((channel == ONLINE) & (rng.random(size) < 0.7), fresh_devices(rng, size), own),
        pattern=OUT_OF_HABIT,
    )


def _overspending(scene: Scene, rng: np.random.Generator, size: int) -> pl.DataFrame:
    """Single contactless purchases of a few times what the holder would spend, by a stolen card or phone."""
    card = scene.draw_cards(rng, size)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.everyday, scene.home(card))
    return to_events(
        card=card,
        merchant=merchant,
        channel=np.full(size, CONTACTLESS),
        cents=scene.draw_cents(rng, card, merchant, np.exp(rng.uniform(1.2, 2.2, size))),
        micros=scene.draw_times(rng, size),
        device=np.where(rng.random(size) < 0.5, fresh_devices(rng, size), NO_DEVICE),
        pattern=OUT_OF_HABIT,
    )


def _takeover(scene: Scene, rng: np.random.Generator, honest: pl.DataFrame, size: int) -> pl.DataFrame:
    """A purchase abroad from a new device, minutes after an ordinary one."""
    card, micros = _soon_after(rng, honest, size)
    abroad = other_country(scene.home(card), rng.random(size))
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.online, abroad)
    return to_events(
        card=card,
        merchant=merchant,
        channel=np.full(size, ONLINE),
        cents=scene.draw_cents(rng, card, merchant, 2.0),
        micros=micros,
        device=fresh_devices(rng, size),
        pattern=TAKEOVER,
    )


def _enrolment(scene: Scene, rng: np.random.Generator, honest: pl.DataFrame, size: int) -> pl.DataFrame:
    """A purchase at home in a newly opened shop from a new device, minutes after an ordinary one."""
    card, micros = _soon_after(rng, honest, size)
    merchant = scene.world.merchants.draw_in(rng, scene.world.merchants.newcomers, scene.home(card))
    return to_events(
        card=card,
        merchant=merchant,
        channel=np.full(size, ONLINE),
        cents=scene.draw_cents(rng, card, merchant),
        micros=micros,
        device=fresh_devices(rng, size),
        pattern=TAKEOVER,
    )


def _sequences(
    scene: Scene, rng: np.random.Generator, rows: float, *, mean_gap_seconds: float
) -> tuple[Ints, Ints, Ints]:
    size = whole(rng, rows / MEAN_BURST)
    counts = rng.integers(4, 2 * MEAN_BURST - 3, size)
    run, micros = unroll(rng, _at_night_too(scene, rng, size), counts, mean_gap_seconds)
    return run, scene.draw_cards(rng, size)[run], micros


def _soon_after(rng: np.random.Generator, honest: pl.DataFrame, size: int) -> tuple[Ints, Ints]:
    """Card and time of charges 3 to 60 minutes after honest events of the day."""
    before = honest[rng.integers(0, honest.height, size)]
    wait = rng.uniform(3 * MINUTE, 60 * MINUTE, size).astype(np.int64)
    return before["card"].to_numpy(), np.minimum(before["micros"].to_numpy() + wait, MICROS_PER_DAY - 1)


def _at_night_too(scene: Scene, rng: np.random.Generator, size: int) -> Ints:
    by_day, any_time = scene.draw_times(rng, size), rng.integers(0, MICROS_PER_DAY, size)
    return np.where(rng.random(size) < 0.25, any_time, by_day)


def _sometimes_abroad(rng: np.random.Generator, home: Ints, share: float) -> Ints:
    abroad = other_country(home, rng.random(len(home)))
    return np.where(rng.random(len(home)) < share, abroad, home)
