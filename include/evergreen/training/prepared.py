"""From the parts of a training set to what the loop learns from: encoders, and sources of encoded rows."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from evergreen.pipeline import Training
from evergreen.training.dataset import (
    Examples,
    count_labels,
    fitting_sample,
    read_examples,
    sample_examples,
    scan_examples,
    spaced,
)
from evergreen.training.encoders import Encoded, Encoders, fit_encoders
from evergreen.training.rows import Rows, Source
from evergreen.training.scorer import Signature
from evergreen.training.shards import Shards, write_shards

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the parts taught before the first step."""

    encoders: Encoders
    checked: Examples
    """Rows of the validation part as they came: all, or evenly spaced ones of a part larger than memory."""
    negatives: int
    """Of the train part."""
    positives: int

    @property
    def to_tell(self) -> Facts:
        """The same without rows, for processes that only train."""
        return replace(self, checked=self.checked.take(np.empty(0, np.int64)))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything fitted and encoded before the first step."""

    facts: Facts
    train: Source
    validation: Source


def prepare(train: Path, validation: Path, features: Signature, device: torch.device) -> Prepared:
    """The parts in the Parquet files `train` and `validation`, wholly in memory.

    Raises DataError when a column is absent or the labels cannot be learned from.
    """
    taught, checked = read_examples(train, features), read_examples(validation, features)
    encoders, encoded = fit_encoders(taught)
    negatives = taught.rows - taught.positives
    return Prepared(
        facts=Facts(encoders=encoders, checked=checked, negatives=negatives, positives=taught.positives),
        train=Rows.on(device, encoded),
        validation=Rows.on(device, encoders.encode(checked)),
    )


def encode_shards(train: Path, validation: Path, features: Signature, training: Training, folder: Path) -> Facts:
    """The facts of the same parts, now encoded into shards below `folder`.

    No more than `training.rows_in_memory` rows are ever in memory.
    """
    shutil.rmtree(folder, ignore_errors=True)
    counts, rows = count_labels(train), count_labels(validation).total()
    positions = spaced(counts.total(), training.rows_in_memory)
    encoders, own = fit_encoders(fitting_sample(train, features, positions))
    write_shards(folder / "train", _encoded(scan_examples(train, features), encoders, own, positions))
    write_shards(folder / "validation", (encoders.encode(some) for some in scan_examples(validation, features)))
    logger.info("encoded %d rows into shards, encoders fitted on %d of them", counts.total(), positions.size)
    checked = sample_examples(validation, features, spaced(rows, training.rows_in_memory))
    return Facts(encoders=encoders, checked=checked, negatives=counts[0], positives=counts[1])


def open_shards(facts: Facts, folder: Path, training: Training, device: torch.device) -> Prepared:
    """The shards below `folder` as sources, each loaded where it fits in memory."""
    train, validation = (_source(folder / part, training, device) for part in ("train", "validation"))
    return Prepared(facts=facts, train=train, validation=validation)


def larger_than_memory(parts: tuple[Path, ...], training: Training) -> bool:
    """Whether one of the Parquet files has more rows than may be in memory."""
    return any(pq.read_metadata(part).num_rows > training.rows_in_memory for part in parts)


def _source(folder: Path, training: Training, device: torch.device) -> Source:
    shards = Shards.open(folder, device)
    return shards.load() if shards.num_rows <= training.rows_in_memory else shards


def _encoded(
    parts: Iterator[Examples], encoders: Encoders, own: Encoded, positions: npt.NDArray[np.int64]
) -> Iterator[Encoded]:
    """Every batch encoded; the rows that encoders were fitted to, at `positions`, are as in `own`.

    A row must not be encoded by what its own label taught: `own` has the encodings from other folds.
    """
    begin = 0
    for examples in parts:
        encoded = encoders.encode(examples)
        first, last = np.searchsorted(positions, (begin, begin + examples.rows))
        at = positions[first:last] - begin
        encoded.numeric[at] = own.numeric[first:last]
        encoded.categories[at] = own.categories[first:last]
        yield encoded
        begin += examples.rows
