"""Training sets with a holdout, written the way the features stage leaves them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evergreen.artifacts import TrainingSet
from evergreen.lake.lake import Lake, start_of
from evergreen.pipeline import Pipeline

AS_OF = datetime(2026, 11, 20, tzinfo=UTC)
HOLDOUT = (date(2026, 11, 15), date(2026, 11, 16))
DAYS = {
    "train": (date(2026, 11, 1), date(2026, 11, 12)),
    "validation": (date(2026, 11, 13), date(2026, 11, 14)),
    "holdout": HOLDOUT,
}


def make_rows(pipeline: Pipeline, *, rows: int = 2000, share: float = 0.1, seed: int = 0) -> pl.DataFrame:
    """Rows in which `amount` tells positives apart, except in channel `atm`, where it misleads."""
    rng = np.random.default_rng(seed)
    label = (rng.random(rows) < share).astype(np.int8)
    channel = rng.choice(["chip", "online", "atm"], rows, p=[0.5, 0.3, 0.2])
    amount = 4 + rng.normal(size=rows) + np.where(channel == "atm", -1.0, 1.5) * label
    seconds = pl.Series(np.sort(rng.integers(0, 2 * 86_400, rows)) * 1_000_000, dtype=pl.Duration("us"))
    columns: dict[str, object] = {
        pipeline.contract.key: [f"{n:06d}" for n in range(rows)],
        "event_time": seconds + start_of(HOLDOUT[0]),
        "label": label,
    }
    columns |= {name: rng.normal(size=rows) for name in pipeline.features.numeric}
    columns |= {name: ["x"] * rows for name in pipeline.features.categorical}
    return pl.DataFrame(columns | {"amount": amount, "channel": channel}, schema_overrides={"label": pl.Int8})


def store_training_set(
    lake: Lake,
    pipeline: Pipeline,
    holdout: pl.DataFrame,
    *,
    as_of: datetime = AS_OF,
    days: dict[str, tuple[date, date]] = DAYS,
    definitions: dict[str, str] | None = None,
) -> TrainingSet:
    """The training set with `holdout`; its other parts are one row each, as evaluation never reads them.

    Without `definitions` it is as sets were before they said what their features mean.
    """
    parts = {"train": holdout.head(1), "validation": holdout.head(1), "holdout": holdout}
    files = {name: _parquet(frame, Path(lake.url.removeprefix("file://")).parent) for name, frame in parts.items()}
    manifest = {
        "as_of": as_of.isoformat(),
        **{f"{name}_days": [day.isoformat() for day in ends] for name, ends in days.items()},
        "parts": {
            name: {"digest": hashlib.sha256(data).hexdigest(), "rows": parts[name].height}
            for name, data in files.items()
        },
    } | ({"definitions": definitions} if definitions else {})
    text = json.dumps(manifest, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    uri = f"training_sets/{pipeline.pipeline}/{digest}"
    for name, data in files.items():
        lake.objects.put(f"{uri}/{name}.parquet", data)
    lake.objects.put(f"{uri}/manifest.json", text)
    return TrainingSet(
        pipeline=pipeline.pipeline,
        as_of=as_of,
        digest=digest,
        uri=uri,
        **{f"{name}_days": ends for name, ends in days.items()},
        rows={name: frame.height for name, frame in parts.items()},
        positives={name: int(frame["label"].sum()) for name, frame in parts.items()},
    )


def _parquet(frame: pl.DataFrame, folder: Path) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "part.parquet"
    frame.write_parquet(path)
    return path.read_bytes()


@pytest.fixture
def store(fraud: Pipeline) -> Callable[..., TrainingSet]:
    """Stores a training set of the fraud pipeline, with 2,000 made-up holdout rows unless some are given."""

    def make(
        lake: Lake,
        holdout: pl.DataFrame | None = None,
        *,
        days_later: int = 0,
        definitions: dict[str, str] | None = None,
    ) -> TrainingSet:
        rows = make_rows(fraud) if holdout is None else holdout
        shift = timedelta(days=days_later)
        days = {name: (first + shift, last + shift) for name, (first, last) in DAYS.items()}
        return store_training_set(lake, fraud, rows, as_of=AS_OF + shift, days=days, definitions=definitions)

    return make


@pytest.fixture
def rows(fraud: Pipeline) -> Callable[..., pl.DataFrame]:
    """Makes holdout rows of the fraud pipeline."""
    return lambda **options: make_rows(fraud, **options)
