"""A history of feature days, the training set cut from it, and a champion trained on that, all in a real lake."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.lake.tables import days_between
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline import Pipeline

FIRST_DAY = date(2026, 10, 1)
LAST_DAY = date(2026, 10, 26)
TRAIN_DAYS, VALIDATION_DAYS, HOLDOUT_DAYS, MATURES_AFTER = 14, 2, 2, 3


@dataclass
class World:
    """Days of made-up features; from each of `shifts` on, numbers triple and a new category takes a third."""

    pipeline: Pipeline
    lake: Lake
    make_model: Callable[..., Model]
    rows: int = 2000
    shifts: tuple[date, ...] = ()
    positives_a_day: int = 300
    closed: int | None = None
    """Weekday without a row, Monday being 0."""
    written: dict[date, pl.DataFrame] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    """What training sets say of their features' definitions; older ones say nothing."""

    def write(self, first: date, last: date) -> None:
        """Features of first..last, as ingestion leaves them, and labels reported the day after the event."""
        for day in days_between(first, last):
            if day not in self.written and day.weekday() != self.closed:
                self.written[day] = self.features(day)
                self.lake.table("features", self.pipeline.pipeline).replace_day(day, self.written[day].to_arrow())
                self._label(day)

    def features(self, day: date) -> pl.DataFrame:
        rng = np.random.default_rng(day.toordinal())
        shifted = sum(day >= shift for shift in self.shifts)
        micros = np.sort(rng.integers(0, 86_400_000_000, self.rows))
        moments = pl.Series(micros, dtype=pl.Duration("us")) + start_of(day)
        columns: dict[str, object] = {
            self.pipeline.contract.key: [f"{day}-{row}" for row in range(self.rows)],
            "event_time": moments,
            "known_at": moments,
            "superseded_at": pl.Series([None] * self.rows, dtype=pl.Datetime("us", "UTC")),
        }
        for name in self.pipeline.features.numeric:
            columns[name] = rng.gamma(2.0, 2.0, self.rows) * 3.0**shifted
        columns["hour"] = (micros // 3_600_000_000).astype(float)
        columns["weekday"] = np.full(self.rows, float(day.weekday()))
        for name in self.pipeline.features.categorical:
            values = rng.choice(["a", "b", "c"], self.rows, p=[0.6, 0.3, 0.1])
            columns[name] = np.where(rng.random(self.rows) < 0.33, f"new {shifted}", values) if shifted else values
        return pl.DataFrame(columns)

    def champion(self, as_of_day: date) -> Model:
        """A model whose training set was cut as of the end of `as_of_day`."""
        holdout_last = as_of_day - timedelta(days=MATURES_AFTER)
        validation_last = holdout_last - timedelta(days=HOLDOUT_DAYS)
        train_last = validation_last - timedelta(days=VALIDATION_DAYS)
        days = {
            "train": (max(FIRST_DAY, train_last - timedelta(days=TRAIN_DAYS - 1)), train_last),
            "validation": (train_last + timedelta(days=1), validation_last),
            "holdout": (validation_last + timedelta(days=1), holdout_last),
        }
        self.write(FIRST_DAY, as_of_day)
        digest = self._store(days, as_of_day)
        return self.make_model(self.lake, self.pipeline, as_of=end_of(as_of_day), training_set=digest)

    def _store(self, days: dict[str, tuple[date, date]], as_of_day: date) -> str:
        parts = {name: self._part(first, last) for name, (first, last) in days.items()}
        manifest = {
            "as_of": end_of(as_of_day).isoformat(),
            "numeric": self.pipeline.features.numeric,
            "categorical": self.pipeline.features.categorical,
            **({"definitions": self.definitions} if self.definitions else {}),
            "features": {d.day.isoformat(): d.digest for d in self.lake.table("features", "fraud").days()},
            **{f"{name}_days": [d.isoformat() for d in ends] for name, ends in days.items()},
            "parts": {
                name: {"digest": hashlib.sha256(data).hexdigest(), "rows": rows} for name, (data, rows) in parts.items()
            },
        }
        text = json.dumps(manifest, sort_keys=True).encode()
        digest = hashlib.sha256(text).hexdigest()
        folder = f"training_sets/{self.pipeline.pipeline}/{digest}"
        for name, (data, _) in parts.items():
            self.lake.objects.put(f"{folder}/{name}.parquet", data)
        self.lake.objects.put(f"{folder}/manifest.json", text)
        return digest

    def _part(self, first: date, last: date) -> tuple[bytes, int]:
        frame = pl.concat([self.written[day] for day in days_between(first, last) if day in self.written])
        frame = frame.drop("known_at", "superseded_at").with_columns(label=pl.lit(0, pl.Int8))
        path = Path(self.lake.url.removeprefix("file://")).parent / "part.parquet"
        frame.write_parquet(path)
        return path.read_bytes(), frame.height

    def _label(self, day: date) -> None:
        keys = self.written[day][self.pipeline.contract.key][: self.positives_a_day]
        reported = day + timedelta(days=1)
        table = pa.table(
            {
                "key": keys.to_arrow().cast(pa.string()),
                "value": pa.array(np.ones(len(keys), np.int8)),
                "event_time": pa.array([start_of(reported)] * len(keys), pa.timestamp("us", "UTC")),
                "known_at": pa.array([start_of(reported)] * len(keys), pa.timestamp("us", "UTC")),
            }
        )
        self.lake.table("labels", self.pipeline.pipeline).replace_day(reported, table)


@pytest.fixture(scope="session")
def history(fraud: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ordinary days up to LAST_DAY in a lake that tests only copy."""
    folder = tmp_path_factory.mktemp("history") / "lake"
    world = World(_with_few_features(fraud), Lake(folder.as_uri()), make_model=_no_model)
    world.write(FIRST_DAY, LAST_DAY)
    return world


@pytest.fixture
def world(history: World, lake: Lake, make_model: Callable[..., Model]) -> World:
    """A lake of one's own with ordinary days of the fraud pipeline up to LAST_DAY."""
    shutil.copytree(history.lake.objects.root, lake.objects.root)
    return World(history.pipeline, lake, make_model, written=dict(history.written))


def _with_few_features(pipeline: Pipeline) -> Pipeline:
    numeric = ("amount", "hour", "weekday", "card_count_7d", "card_sum_1h")
    few = pipeline.features.model_copy(update={"numeric": numeric, "categorical": ("channel", "mcc")})
    return pipeline.model_copy(update={"features": few})


def _no_model(*_: object, **__: object) -> Model:
    raise AssertionError("the shared history has no models")


@pytest.fixture(scope="session")
def ledger(start_postgres: Callable[[], Any]) -> Ledger:
    """A migrated ledger on a real PostgreSQL."""
    folder = start_postgres().get_postmaster_info().socket_dir
    made = Ledger(f"postgresql+psycopg2://postgres@/postgres?host={folder}")
    made.migrate()
    return made
