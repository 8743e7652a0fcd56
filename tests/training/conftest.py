"""A small training set in a real lake, and a pipeline that learns from it in about a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from evergreen.artifacts import TrainingSet
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

ROWS = {"train": 3000, "validation": 1500, "holdout": 500}
MERCHANTS = 90


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors wait longer for a second thread than they gain by it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(fraud: Pipeline) -> Pipeline:
    """The fraud pipeline with few features, one of them of many levels, and a small network."""
    features = fraud.features.model_copy(
        update={
            "numeric": ("amount", "hour", "card_since_last", "foreign"),
            "categorical": ("channel", "merchant_id"),
        }
    )
    training = fraud.training.model_copy(
        update={"family": "network", "hidden": (24, 24), "max_epochs": 5, "batch_rows": 256, "threads": 1}
        | {"negative_share": 0.5, "learning_rate": 5e-3}
    )
    return fraud.model_copy(update={"features": features, "training": training})


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pl.DataFrame]:
    """Makes `rows` labelled rows of `tiny`'s features in time order, where amounts, online and a merchant are risky."""
    return _rows


@pytest.fixture(scope="session")
def make_training_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainingSet]:
    """Writes parts into the lake as a training set; a part not given is made of rows."""

    def make(lake: Lake, pipeline: Pipeline, **parts: pl.DataFrame) -> TrainingSet:
        frames = {name: parts.get(name, _rows(rows, seed=rows)) for name, rows in ROWS.items()}
        return _store(lake, pipeline, frames, tmp_path_factory.mktemp("parts"))

    return make


def _rows(rows: int, *, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    amount, hour = rng.lognormal(3, 1, rows), rng.integers(0, 24, rows).astype(float)
    online, merchant = rng.random(rows) < 0.3, rng.integers(0, MERCHANTS, rows)
    log_odds = -4.5 + 0.04 * amount * online + 2.5 * (merchant % 30 == 3) + (hour < 5)
    return pl.DataFrame(
        {
            "transaction_id": [f"t{i}" for i in range(rows)],
            "event_time": pl.Series(np.arange(rows) * 20_000_000).cast(pl.Datetime("us", "UTC")),
            "label": (rng.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(np.int8),
            "amount": amount,
            "hour": hour,
            "card_since_last": pl.Series(np.where(rng.random(rows) < 0.2, np.nan, rng.exponential(3e4, rows))).fill_nan(
                None
            ),
            "foreign": (rng.random(rows) < 0.1).astype(float),
            "channel": np.where(online, "online", "chip"),
            "merchant_id": [f"m{i}" for i in merchant],
        }
    )


def _store(lake: Lake, pipeline: Pipeline, frames: dict[str, pl.DataFrame], folder: Path) -> TrainingSet:
    parts = {}
    for name, frame in frames.items():
        local = folder / f"{name}.parquet"
        frame.write_parquet(local)
        digest = hashlib.sha256(local.read_bytes()).hexdigest()
        parts[name] = {"digest": digest, "rows": frame.height, "positives": int((frame["label"] == 1).sum())}
    manifest = json.dumps({"parts": parts}, sort_keys=True).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    uri = f"training_sets/{pipeline.pipeline}/{digest}"
    for name in frames:
        lake.objects.put_file(f"{uri}/{name}.parquet", folder / f"{name}.parquet")
    lake.objects.put(f"{uri}/manifest.json", manifest)
    return TrainingSet(
        pipeline=pipeline.pipeline,
        as_of=datetime(2026, 11, 2, tzinfo=UTC),
        digest=digest,
        uri=uri,
        train_days=(date(2026, 10, 1), date(2026, 10, 21)),
        validation_days=(date(2026, 10, 22), date(2026, 10, 23)),
        holdout_days=(date(2026, 10, 24), date(2026, 10, 25)),
        rows={name: part["rows"] for name, part in parts.items()},
        positives={name: part["positives"] for name, part in parts.items()},
    )
