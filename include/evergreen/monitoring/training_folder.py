"""What a model learned from: the parts of its training set, every byte checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import polars as pl
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from evergreen.artifacts import Model, TableDay
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.objects import file_digest, require_digest

BATCH_ROWS = 1 << 17


class Part(BaseModel):
    """One part of a training set."""

    model_config = ConfigDict(frozen=True)

    digest: str
    rows: int


class TrainingFolder(BaseModel):
    """What monitoring reads of a training set's manifest.json."""

    model_config = ConfigDict(frozen=True)

    train_days: tuple[date, date]
    holdout_days: tuple[date, date]
    features: dict[date, str]
    """Digest of each day of features it was cut from."""
    parts: dict[str, Part]
    uri: str = ""

    def history_from(self, built: Sequence[TableDay]) -> datetime:
        """The first instant of history that the features of this set could look back to.

        `built` holds the days of features there are now. Where the first training day was rebuilt since,
        history may have grown backwards after the set was made, and is taken to begin with that day.
        """
        first = self.train_days[0]
        unchanged = any(day.day == first and day.digest == self.features.get(first) for day in built)
        return start_of(min(day.day for day in built) if unchanged else first)

    @classmethod
    def of(cls, model: Model, lake: Lake) -> Self:
        """The training set of `model`; NotFound when it is gone, IntegrityError when it was altered."""
        uri = f"training_sets/{model.pipeline}/{model.training_set}"
        data = lake.objects.get(f"{uri}/manifest.json")
        require_digest(f"{uri}/manifest.json", found=hashlib.sha256(data).hexdigest(), wanted=model.training_set)
        return cls.model_validate_json(data).model_copy(update={"uri": uri})

    @contextmanager
    def fetched(self, part: str, lake: Lake) -> Iterator[pq.ParquetFile]:
        """The Parquet file of one part, on local disk while the block lasts."""
        with TemporaryDirectory(prefix="evergreen-") as folder:
            local = Path(folder) / f"{part}.parquet"
            lake.objects.fetch(f"{self.uri}/{part}.parquet", local)
            require_digest(f"{self.uri}/{part}.parquet", found=file_digest(local), wanted=self.parts[part].digest)
            with pq.ParquetFile(local) as file:
                yield file


def frames_of(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The named columns of a Parquet file, batch by batch."""
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(columns)):
        yield pl.DataFrame(batch)
