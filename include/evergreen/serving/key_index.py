"""Finds the rows of a frame that share a key value with other rows, without looking at every row.

Keys are compared by a 64-bit hash, so an answer may hold a few rows too many, never one too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
SEED = 1


def key_hashes(rows: pl.DataFrame, columns: tuple[str, ...]) -> Hashes:
    """uint64 [rows]: equal for rows that agree in `columns`."""
    if len(columns) == 1:
        return rows[columns[0]].hash(SEED).to_numpy()
    return rows.select(columns).hash_rows(seed=SEED).to_numpy()


def narrowest(keys: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The keys that contain no other: rows that agree in a wider key agree in the narrower one too."""
    distinct = sorted({tuple(sorted(key)) for key in keys}, key=lambda key: (len(key), key))
    kept: list[tuple[str, ...]] = []
    for key in distinct:
        if not any(set(other) <= set(key) for other in kept):
            kept.append(key)
    return kept


@dataclass(frozen=True)
class SortedHashes:
    """The hashes of one key in order, and where each row is."""

    hashes: Hashes
    positions: Positions

    @classmethod
    def of(cls, hashes: Hashes) -> Self:
        """The index of rows with these hashes."""
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order)

    def find(self, wanted: Hashes) -> Positions:
        """Positions of all rows whose hash is among `wanted` (sorted, distinct), in no particular order."""
        first = np.searchsorted(self.hashes, wanted, "left")
        counts = np.searchsorted(self.hashes, wanted, "right") - first
        starts = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return self.positions[starts + np.arange(len(starts))]


def find_unsorted(hashes: Hashes, wanted: Hashes) -> Positions:
    """Positions of all rows whose hash is among `wanted` (sorted, distinct), by one pass over `hashes`."""
    if not len(wanted):
        return np.empty(0, np.int64)
    nearest = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
    return np.flatnonzero(wanted[nearest] == hashes)
