"""From the parts of a training set to what the loop learns from: encoders, and sources of encoded rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from evergreen.pipeline import Training
from evergreen.training.dataset import (
    Examples,
    count_labels,
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
class Prepared:
    """Everything fitted and encoded before the first step."""

    encoders: Encoders
    train: Source
    validation: Source
    checked: Examples
    """Rows of the validation part as they came: all, or evenly spaced ones of a part larger than memory."""
    negatives: int
    """Of the train part."""
    positives: int


def prepare(train: Path, validation: Path, features: Signature, device: torch.device) -> Prepared:
    """The parts in the Parquet files `train` and `validation`, wholly in memory.

    Raises DataError when a column is absent or the labels cannot be learned from.
    """
    taught, checked = read_examples(train, features), read_examples(validation, features)
    encoders, encoded = fit_encoders(taught)
    return Prepared(
        encoders=encoders,
        train=Rows.on(device, encoded),
        validation=Rows.on(device, encoders.encode(checked)),
        checked=checked,
        negatives=taught.rows - taught.positives,
        positives=taught.positives,
    )


def prepare_shards(
    train: Path, validation: Path, features: Signature, training: Training, device: torch.device, folder: Path
) -> Prepared:
    """The same on disk below `folder`: no more than `training.rows_in_memory` rows are ever in memory."""
    counts = count_labels(train)
    count_labels(validation)
    positions = spaced(counts.total(), training.rows_in_memory)
    encoders, own = fit_encoders(sample_examples(train, features, positions))
    write_shards(folder / "train", _encoded(scan_examples(train, features), encoders, own, positions))
    write_shards(folder / "validation", (encoders.encode(some) for some in scan_examples(validation, features)))
    rows = pq.read_metadata(validation).num_rows
    logger.info("encoded %d rows into shards, encoders fitted on %d of them", counts.total(), positions.size)
    return Prepared(
        encoders=encoders,
        train=open_source(folder / "train", training, device),
        validation=open_source(folder / "validation", training, device),
        checked=sample_examples(validation, features, spaced(rows, training.rows_in_memory)),
        negatives=counts[0],
        positives=counts[1],
    )


def larger_than_memory(parts: tuple[Path, ...], training: Training) -> bool:
    """Whether one of the Parquet files has more rows than may be in memory."""
    return any(pq.read_metadata(part).num_rows > training.rows_in_memory for part in parts)


def open_source(folder: Path, training: Training, device: torch.device) -> Source:
    """The shards in `folder`, loaded where they fit in memory."""
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
