"""Seeded randomness: a generator per (seed, purpose, day), and draws that belong to a thing rather than to a day."""

from datetime import date
from typing import TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Hashes: TypeAlias = npt.NDArray[np.uint64]


def generator(seed: int, purpose: str, day: date | None = None) -> np.random.Generator:
    """A fresh generator that depends on its arguments only, so that days can be drawn in any order."""
    return np.random.default_rng([seed, crc32(purpose.encode()), day.toordinal() if day else 0])


def stable_hash(seed: int, purpose: str, *keys: Ints | int) -> Hashes:
    """64 well-mixed bits for each combination of keys (broadcast together): the same today, tomorrow and next year.

    The mixing step is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    """
    mixed: Hashes = np.array(
        [seed * 0x9E3779B97F4A7C15 + crc32(purpose.encode()) & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64
    )
    for key in keys:
        mixed = splitmix64(mixed ^ splitmix64(np.atleast_1d(np.asarray(key, dtype=np.int64)).astype(np.uint64)))
    return mixed


def stable_uniform(seed: int, purpose: str, *keys: Ints | int) -> Floats:
    """A number in [0, 1) for each combination of keys, from `stable_hash`."""
    return np.asarray((stable_hash(seed, purpose, *keys) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def draw(rng: np.random.Generator, cumulative: Floats, size: int) -> Ints:
    """Positions drawn with the weights whose running sum is `cumulative`."""
    return pick(cumulative, rng.random(size) * cumulative[-1])


def pick(cumulative: Floats, points: Floats) -> Ints:
    """The position each point falls on along a running sum of weights; weightless positions are never hit."""
    return np.minimum(np.searchsorted(cumulative, points, side="right"), len(cumulative) - 1).astype(np.int64)


def draw_within(rng: np.random.Generator, cumulative: Floats, starts: Ints, group: Ints) -> Ints:
    """One position of each given group, where group g covers positions `starts[g]` up to `starts[g + 1]`."""
    return place_within(cumulative, starts, group, rng.random(len(group)))


def place_within(cumulative: Floats, starts: Ints, group: Ints, chance: Floats) -> Ints:
    """As `draw_within`, with the chance in [0, 1) given: the same chance in the same group is the same position."""
    edges = np.concatenate([[0.0], cumulative])
    low, high = edges[starts[group]], edges[starts[group + 1]]
    return pick(cumulative, low + chance * (high - low))


def whole(rng: np.random.Generator, expected: float) -> int:
    """A whole number that is `expected` on average: the fraction is settled by one draw."""
    return int(expected + rng.random())


def splitmix64(bits: Hashes) -> Hashes:
    """The first output of the SplitMix64 generator for each state; also a fine mixer of bits."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
