"""Rows of one part of a training set, as arrays. B rows, N numeric and C categorical features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from evergreen.errors import DataError
from evergreen.training.scorer import Signature, numeric_matrix

LABEL = "label"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled rows in time order."""

    numeric: npt.NDArray[np.float32]
    """[B, N], NaN where missing; infinities are allowed and count as very large."""
    categorical: pl.DataFrame
    """[B, C] strings, "" where missing."""
    labels: npt.NDArray[np.float32]
    """[B], 0 or 1."""

    @property
    def rows(self) -> int:
        """B."""
        return self.labels.size

    @property
    def positives(self) -> int:
        """Rows with label 1."""
        return int(self.labels.sum())

    def take(self, positions: npt.NDArray[np.int64]) -> Examples:
        """The rows at `positions`, in that order."""
        frame = self.categorical  # one of no columns has no rows, either
        taken = frame[positions] if frame.width else frame
        return Examples(numeric=self.numeric[positions], categorical=taken, labels=self.labels[positions])

    def slices(self, rows_at_once: int) -> Iterator[Examples]:
        """All rows in order, at most `rows_at_once` of them at a time."""
        for at in range(0, self.rows, rows_at_once):
            piece = slice(at, at + rows_at_once)
            yield Examples(numeric=self.numeric[piece], categorical=self.categorical[piece], labels=self.labels[piece])


def read_examples(path: Path, signature: Signature) -> Examples:
    """The rows of the Parquet file `path`; DataError when a column is absent or the labels cannot be learned from."""
    part = path.stem
    columns = [*signature.numeric, *signature.categorical, LABEL]
    _require_columns(part, columns, pl.read_parquet_schema(path))
    frame = pl.read_parquet(path, columns=columns)
    _require_both_classes(part, _counts(frame[LABEL]))
    return _examples(frame, signature)


def scan_examples(path: Path, signature: Signature, rows_at_once: int = 65536) -> Iterator[Examples]:
    """The rows of the Parquet file `path` in order, never more than `rows_at_once` of them in memory."""
    columns = [*signature.numeric, *signature.categorical, LABEL]
    _require_columns(path.stem, columns, pl.read_parquet_schema(path))
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(rows_at_once, columns=columns, use_threads=False):
            frame = pl.DataFrame(pl.from_arrow(batch))
            yield _examples(frame, signature)


def count_labels(path: Path) -> Counter[int | None]:
    """Rows by label, read by batches; DataError when the labels cannot be learned from."""
    _require_columns(path.stem, [LABEL], pl.read_parquet_schema(path))
    counts: Counter[int | None] = Counter()
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(1 << 20, columns=[LABEL]):
            counts += _counts(pl.Series(batch[LABEL]))
    _require_both_classes(path.stem, counts)
    return counts


def spaced(rows: int, wanted: int) -> npt.NDArray[np.int64]:
    """int64 [min(rows, wanted)]: positions evenly spaced over `rows`."""
    return np.arange(min(rows, wanted), dtype=np.int64) * rows // min(rows, wanted)


def sample_examples(path: Path, signature: Signature, positions: npt.NDArray[np.int64]) -> Examples:
    """The rows of the Parquet file `path` at `positions`, which ascend."""
    begin, parts = 0, []
    for examples in scan_examples(path, signature):
        first, last = np.searchsorted(positions, (begin, begin + examples.rows))
        parts.append(examples.take(positions[first:last] - begin))
        begin += examples.rows
    return Examples(
        numeric=np.concatenate([part.numeric for part in parts]),
        categorical=pl.concat([part.categorical for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def fitting_sample(path: Path, signature: Signature, positions: npt.NDArray[np.int64]) -> Examples:
    """The same, for encoders to be fitted to; DataError when they hold one class alone."""
    sample = sample_examples(path, signature, positions)
    counts = _counts(pl.Series(sample.labels).cast(pl.Int8))
    remedy = "Raise training.rows_in_memory: the sample has that many rows."
    _require_both_classes(f"{path.stem} sample", counts, remedy=remedy)
    return sample


def _examples(frame: pl.DataFrame, signature: Signature) -> Examples:
    return Examples(
        numeric=numeric_matrix(frame, signature.numeric),
        categorical=frame.select(pl.col(signature.categorical).cast(pl.String).fill_null("")),
        labels=frame[LABEL].cast(pl.Float32).to_numpy(),
    )


def _counts(labels: pl.Series) -> Counter[int | None]:
    values, counts = labels.value_counts()
    return Counter(dict(zip(values.to_list(), counts.to_list(), strict=True)))


def _require_columns(part: str, wanted: list[str], found: dict[str, pl.DataType]) -> None:
    absent = [name for name in wanted if name not in found]
    if absent:
        raise DataError(
            f"Columns of the {part} part",
            found=f"no {', '.join(absent)}",
            wanted="every feature of the spec, and the label",
            remedy="Build the training set again with this spec.",
        )


def _require_both_classes(
    part: str,
    counts: Counter[int | None],
    *,
    remedy: str = "Lengthen training.window_days or training.validation_days, or check the table of labels.",
) -> None:
    values = sorted(counts, key=lambda value: (value is not None, value))
    if values != [0, 1]:
        raise DataError(
            f"Labels of the {part} part",
            found=f"the values {values} in {counts.total()} rows",
            wanted="both 0 and 1, and nothing else",
            remedy=remedy,
        )
