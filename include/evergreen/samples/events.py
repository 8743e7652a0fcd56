"""Events: one day's purchases as positions in the world, before they become rows with names and times."""

import numpy as np
import polars as pl

from evergreen.samples.behaviour import MICROS_PER_DAY, MICROS_PER_SECOND, Scene
from evergreen.samples.randomness import Floats, Hashes, Ints

LEGITIMATE = ""


def to_events(
    *, card: Ints, merchant: Ints, channel: Ints, cents: Ints, micros: Ints, device: Hashes, pattern: str = LEGITIMATE
) -> pl.DataFrame:
    """One row a purchase; those that would fall outside the day are left out.

    `micros` counts from midnight UTC, `device` is 0 for none, `pattern` names the fraud.
    """
    columns = {
        "card": card,
        "merchant": merchant,
        "channel": channel,
        "cents": cents,
        "micros": micros,
        "device": device,
    }
    events = pl.DataFrame(columns).with_columns(pattern=pl.lit(pattern))
    return events.filter(pl.col("micros").is_between(0, MICROS_PER_DAY - 1))


def act_normally(
    scene: Scene, rng: np.random.Generator, card: Ints, micros: Ints, *, factor: Floats | float = 1.0
) -> pl.DataFrame:
    """What these cards' holders would do by themselves at these times, spending `factor` times their habit."""
    merchant = scene.draw_merchants(rng, card)
    cents = scene.draw_cents(rng, card, merchant, factor)
    channel = scene.draw_channels(rng, card, merchant, cents)
    device = scene.draw_devices(rng, card, channel)
    return to_events(card=card, merchant=merchant, channel=channel, cents=cents, micros=micros, device=device)


def unroll(rng: np.random.Generator, starts: Ints, counts: Ints, mean_gap_seconds: float) -> tuple[Ints, Ints]:
    """Sequences laid end to end: each element's sequence number, and its time when gaps are exponential.

    `starts` are microseconds since midnight; the first element of a sequence happens at its start.
    """
    sequence = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    gaps = rng.exponential(mean_gap_seconds * MICROS_PER_SECOND, int(counts.sum()))
    elapsed = np.cumsum(gaps)
    return sequence, (starts[sequence] + elapsed - elapsed[first[sequence]]).astype(np.int64)
