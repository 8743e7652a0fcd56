"""Encoded rows on disk, for parts larger than memory and for processes that share them.

    <folder>/
        000000.safetensors ...   `values` float32 [B, F], `indices` int32 [B, E], `labels` float32 [B]; memory-mapped
        index.json               rows and positives of each shard; written last

An epoch takes the shards in a fresh order, a window of them at a time, and shuffles within the window: what is in
memory is a window, however many rows there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from evergreen.training.encoders import Encoded
from evergreen.training.rows import Epoch, Rows, Share, draw_rows, num_drawn

SHARD_ROWS = 8192
WINDOW_SHARDS = 32
HOST = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Shards that are in memory together."""

    shards: tuple[int, ...]
    begin: int
    """Place of its first row in the epoch's order."""
    num_rows: int
    """Rows drawn from it."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Shards:
    """A source on disk."""

    folder: Path
    device: torch.device
    rows: npt.NDArray[np.int64]
    """By shard."""
    positives: npt.NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path, device: torch.device) -> Shards:
        """The shards that `write_shards` left in `folder`, to be read onto `device`."""
        index = json.loads((folder / "index.json").read_text())
        return cls(folder=folder, device=device, rows=np.array(index["rows"]), positives=np.array(index["positives"]))

    @property
    def num_rows(self) -> int:
        """Of all shards."""
        return int(self.rows.sum())

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """[B], 0 or 1: read from every shard."""
        return np.concatenate([self._load(shard).labels for shard in range(self.rows.size)])

    def load(self) -> Rows:
        """All rows as whole tensors on the device."""
        return _joined([self._load(shard) for shard in range(self.rows.size)]).to(self.device)

    def slices(self, rows_at_once: int) -> Iterator[Rows]:
        """All rows in order, at most `rows_at_once` of them at a time, on the device."""
        for shard in range(self.rows.size):
            yield from self._load(shard).to(self.device).slices(rows_at_once)

    def draw(self, *, negative_share: float, batch_rows: int, share: Share, draws: torch.Generator) -> Epoch:
        """Every positive and a fresh share of the negatives, each row once, shuffled within windows."""
        windows = self._windows(negative_share, draws)
        epoch = Epoch(
            num_rows=sum(window.num_rows for window in windows),
            batch_rows=batch_rows,
            read=lambda first: self._batches(epoch, windows, negative_share, share, first),
        )
        return epoch

    def _windows(self, negative_share: float, draws: torch.Generator) -> list[Window]:
        order = torch.randperm(self.rows.size, generator=draws, device=draws.device).tolist()
        groups = [tuple(order[at : at + WINDOW_SHARDS]) for at in range(0, len(order), WINDOW_SHARDS)]
        seeds = torch.randint(2**62, (len(groups),), generator=draws, device=draws.device).tolist()
        windows, begin = [], 0
        for shards, seed in zip(groups, seeds, strict=True):
            positives = int(self.positives[list(shards)].sum())
            negatives = int(self.rows[list(shards)].sum()) - positives
            num_rows = positives + num_drawn(negatives, negative_share)
            windows.append(Window(shards=shards, begin=begin, num_rows=num_rows, seed=seed))
            begin += num_rows
        return windows

    def _batches(
        self, epoch: Epoch, windows: list[Window], negative_share: float, share: Share, first: int
    ) -> Iterator[Rows]:
        """This share of each batch from `first` on; the next window is read while this one is in use."""
        needed = [window for window in windows if window.begin + window.num_rows > first * epoch.batch_rows]
        number, left = first, None
        with ThreadPoolExecutor(1) as reader:
            reading = [reader.submit(self._read, w, epoch, negative_share, share, first) for w in needed[:1]]
            for later in [*needed[1:], None]:
                rows = reading.pop().result()
                if later is not None:
                    reading.append(reader.submit(self._read, later, epoch, negative_share, share, first))
                left = rows if left is None else _joined([left, rows])
                while number < epoch.num_batches:
                    piece = share.piece(epoch.size(number))
                    size = piece.stop - piece.start
                    if left.num_rows < size:
                        break
                    yield left.take(slice(0, size)).to(self.device)
                    left, number = left.take(slice(size, None)), number + 1

    def _read(self, window: Window, epoch: Epoch, negative_share: float, share: Share, first: int) -> Rows:
        """This share's rows of a window in the epoch's order, from batch `first` on, in memory."""
        rows = _joined([self._load(shard) for shard in window.shards])
        order = draw_rows(rows.given, negative_share, torch.Generator().manual_seed(window.seed))
        place = torch.arange(window.begin, window.begin + window.num_rows)
        number, within = place // epoch.batch_rows, place % epoch.batch_rows
        size = torch.where(number == epoch.num_batches - 1, epoch.size(epoch.num_batches - 1), epoch.batch_rows)
        begin, end = share.index * size // share.of, (share.index + 1) * size // share.of
        return rows.take(order[(number >= first) & (within >= begin) & (within < end)])

    def _load(self, shard: int) -> Rows:
        tensors = load_file(self.folder / _name(shard))
        return Rows(values=tensors["values"], indices=tensors["indices"].long(), given=tensors["labels"])


def write_shards(folder: Path, parts: Iterable[Encoded]) -> None:
    """Writes encoded rows, given by batches, into `folder`, which must not exist."""
    folder.mkdir(parents=True)
    rows: list[int] = []
    positives: list[int] = []
    for part in parts:
        for at in range(0, part.labels.size, SHARD_ROWS):
            piece = slice(at, at + SHARD_ROWS)
            labels = part.labels[piece]
            tensors = {
                "values": torch.tensor(part.numeric[piece]),
                "indices": torch.tensor(part.categories[piece], dtype=torch.int32),
                "labels": torch.tensor(labels),
            }
            save_file(tensors, folder / _name(len(rows)))
            rows.append(labels.size)
            positives.append(int(labels.sum()))
    (folder / "index.json").write_text(json.dumps({"rows": rows, "positives": positives}))


def _joined(parts: list[Rows]) -> Rows:
    return Rows(
        values=torch.cat([part.values for part in parts]),
        indices=torch.cat([part.indices for part in parts]),
        given=torch.cat([part.given for part in parts]),
    )


def _name(shard: int) -> str:
    return f"{shard:06d}.safetensors"
