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
from evergreen.features.definitions import feature_digests
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.objects import file_digest, require_digest
from evergreen.monitoring.history import unbroken_from
from evergreen.pipeline import Pipeline

BATCH_ROWS = 1 << 17


class Part(BaseModel):
    """One part of a training set."""

    model_config = ConfigDict(frozen=True)

    digest: str
    rows: int


class TrainingFolder(BaseModel):
    """What monitoring reads of a training set's manifest.json."""

    model_config = ConfigDict(frozen=True)

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    definitions: dict[str, str] = {}
    """Digest of each feature's definition; none in sets from before they were noted."""
    train_days: tuple[date, date]
    holdout_days: tuple[date, date]
    features: dict[date, str]
    """Digest of each day of features it was cut from."""
    parts: dict[str, Part]
    uri: str = ""

    def history_from(self, built: Sequence[TableDay]) -> datetime:
        """The first instant of unbroken history that the features of this set's last training day could look back to.

        `built` holds the days of features there are now. Where the first training day was rebuilt since,
        history may have grown backwards after the set was made, and is taken to begin with that day. A gap
        among the training days counts as it was then, also when it was filled since.
        """
        first, last = self.train_days
        unchanged = any(day.day == first and day.digest == self.features.get(first) for day in built)
        before = {day.day for day in built if day.day < first} if unchanged else set()
        return start_of(unbroken_from(self.features.keys() | before, last))

    def redefined(self, pipeline: Pipeline) -> frozenset[str]:
        """The features of both whose definition is another one now; none of a set that does not say what it had."""
        now = feature_digests(pipeline) if self.definitions else {}
        return frozenset(name for name in now.keys() & self.definitions.keys() if now[name] != self.definitions[name])

    def shared(self, pipeline: Pipeline) -> tuple[str, ...]:
        """The pipeline's features that this set has too, as the same kind and not redefined since."""
        features, redefined = pipeline.features, self.redefined(pipeline)
        numeric = [name for name in features.numeric if name in self.numeric]
        both = (*numeric, *(name for name in features.categorical if name in self.categorical))
        return tuple(name for name in both if name not in redefined)

    def lacking(self, pipeline: Pipeline) -> tuple[str, ...]:
        """The features of this set that the pipeline lacks, has as another kind, or has redefined."""
        shared = self.shared(pipeline)
        return tuple(name for name in (*self.numeric, *self.categorical) if name not in shared)

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
