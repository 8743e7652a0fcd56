"""Rows of one part of a training set, as arrays. B rows, N numeric and C categorical features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

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


def read_examples(path: Path, signature: Signature) -> Examples:
    """The rows of the Parquet file `path`; DataError when a column is absent or the labels cannot be learned from."""
    part = path.stem
    columns = [*signature.numeric, *signature.categorical, LABEL]
    _require_columns(part, columns, pl.read_parquet_schema(path))
    frame = pl.read_parquet(path, columns=columns)
    labels = frame[LABEL]
    _require_both_classes(part, labels)
    return Examples(
        numeric=numeric_matrix(frame, signature.numeric),
        categorical=frame.select(pl.col(signature.categorical).cast(pl.String).fill_null("")),
        labels=labels.cast(pl.Float32).to_numpy(),
    )


def _require_columns(part: str, wanted: list[str], found: dict[str, pl.DataType]) -> None:
    absent = [name for name in wanted if name not in found]
    if absent:
        raise DataError(
            f"Columns of the {part} part",
            found=f"no {', '.join(absent)}",
            wanted="every feature of the spec, and the label",
            remedy="Build the training set again with this spec.",
        )


def _require_both_classes(part: str, labels: pl.Series) -> None:
    values = labels.unique().sort().to_list()
    if values != [0, 1]:
        raise DataError(
            f"Labels of the {part} part",
            found=f"the values {values} in {labels.len()} rows",
            wanted="both 0 and 1, and nothing else",
            remedy="Lengthen training.window_days or training.validation_days, or check the table of labels.",
        )
