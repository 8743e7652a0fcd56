"""Labelled rows in order of time, for judging models: three sources of different character.

    fraud     card transactions of the sample, features by the pipeline's own definitions; no true probability is known
    orders    many categories, some with thousands of levels, whose effects meet those of numbers
    clicks    tastes and topics as smooth numbers, whose likeness makes a click, and trends that come and go

A split is by time: what a model is judged on is later than all it learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.features.compute import compute_features
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import clean_requests, simulate_day

FRAUD_SPEC = Path(__file__).resolve().parents[1] / "include" / "pipelines" / "fraud.yaml"
FIRST_DAY = date(2026, 9, 1)
DAYS = {"before": 7, "train": 21, "validation": 2, "later": 16}
"""Days of the fraud sample; features look back on those before."""
ROWS = {"train": 200_000, "validation": 30_000, "later": 100_000}
"""Of the other sources."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One source under one seed."""

    pipeline: Pipeline
    """Names the features; the sections on training are the defaults."""
    parts: dict[str, pl.DataFrame]
    """`train`, `validation` and `later`: key, event_time, label and features."""
    truth: Floats | None
    """[B]: true probability of each later row, where the source knows it."""


def make(name: str, seed: int) -> Labelled:
    """The rows of the source called `name`; equal arguments give equal rows."""
    return SOURCES[name](seed)


def fraud(seed: int) -> Labelled:
    """Card transactions of the sample simulator in a world of its own for each seed."""
    pipeline, config = read_pipeline(FRAUD_SPEC), SampleConfig(seed=seed)
    days = [FIRST_DAY + timedelta(days=n) for n in range(sum(DAYS.values()))]
    rows = pl.concat(clean_requests(config, day) for day in days)
    truth = pl.concat(simulate_day(config, day).truth.select("transaction_id", "is_fraud") for day in days)
    sound = rows.with_columns(superseded_at=pl.lit(None, pl.Datetime("us", "UTC")))
    features = compute_features(pipeline, sound, sound).join(truth, on="transaction_id", maintain_order="left")
    labelled = features.with_columns(label=pl.col("is_fraud").cast(pl.Int8))
    ends = [FIRST_DAY + timedelta(days=sum(list(DAYS.values())[: n + 1])) for n in range(len(DAYS))]
    day = labelled["event_time"].dt.date()
    parts = {
        part: labelled.filter((day >= begin) & (day < end))
        for part, begin, end in zip(list(DAYS)[1:], ends[:-1], ends[1:], strict=True)
    }
    return Labelled(pipeline=pipeline, parts={n: _ordered(pipeline, f) for n, f in parts.items()}, truth=None)


def orders(seed: int) -> Labelled:
    """Orders that come back: 0.9 %, by seller, model, region and warehouse, and by numbers that matter to some only."""
    rng, size = np.random.default_rng([seed, 1]), sum(ROWS.values())
    levels = {"seller": 4000, "model": 1200, "region": 600, "warehouse": 45, "channel": 6, "payment": 9, "carrier": 24}
    codes = {name: np.minimum(rng.zipf(1.25, size) - 1, 10**9) % count for name, count in levels.items()}
    effects = {name: rng.normal(0, spread, levels[name]) for name, spread in _ORDER_SPREADS.items()}
    numbers = _correlated(rng, size, 24)
    price, weight, age, distance = np.exp(numbers[:, 0]), numbers[:, 1], numbers[:, 2], np.abs(numbers[:, 3])
    sensitive = rng.normal(0, 1, (levels["carrier"], 2))[codes["carrier"]]
    picky = rng.random(levels["model"]) < 0.3
    logit = sum((effects[name][codes[name]] for name in effects), np.zeros(size))
    logit += 0.5 * np.sin(2 * age) + 0.6 * np.tanh(price - 2) + 0.35 * sensitive[:, 0] * distance
    logit += 0.5 * sensitive[:, 1] * weight + 1.2 * picky[codes["model"]] * (numbers[:, 4] > 0.8)
    logit += (
        0.4 * numbers[:, 5] * numbers[:, 6] - 0.3 * numbers[:, 7] ** 2 + 0.8 * (codes["payment"] == 3) * (price > 3)
    )
    numbers[rng.random(numbers.shape) < 0.03] = np.nan
    features: dict[str, object] = {f"number_{i}": numbers[:, i] for i in range(24)}
    features |= {name: pl.Series(code).cast(pl.String) for name, code in codes.items()}
    return _labelled("orders", features, tuple(levels), 1.7 * logit, 0.009, rng)


def clicks(seed: int) -> Labelled:
    """Items shown to people: 2 % clicked, where taste meets topic, where it is new, and where a trend is on."""
    rng, size = np.random.default_rng([seed, 2]), sum(ROWS.values())
    people, items, width, topics = 8000, 1500, 5, 30
    tastes, profiles = rng.normal(0, 1, (people, width)), rng.normal(0, 1, (items, width))
    person, item = rng.integers(0, people, size), np.minimum(rng.zipf(1.3, size) - 1, 10**9) % items
    taste, profile = tastes[person], profiles[item]
    time = np.arange(size) / size
    topic = rng.integers(0, topics, items)[item]
    phase, pace = rng.random(topics), rng.uniform(2, 12, topics)
    trend = np.exp(6 * (np.sin(2 * np.pi * (pace[topic] * time + phase[topic])) - 1))
    recent = np.log1p(trend * 40 * np.exp(rng.normal(0, 0.4, size)))
    hour, fresh = rng.uniform(0, 24, size), rng.exponential(1.0, size)
    logit = 0.55 * (taste * profile).sum(1) + 0.9 * np.exp(-fresh) + 1.6 * trend * (fresh < 1)
    logit += 0.4 * np.cos((hour - 20) * np.pi / 12) + rng.normal(0, 0.5, items)[item]
    seen = taste + rng.normal(0, 0.2, taste.shape)
    features: dict[str, object] = {f"taste_{i}": seen[:, i] for i in range(width)}
    features |= {f"profile_{i}": profile[:, i] for i in range(width)}
    features |= {"hour": hour, "fresh": fresh, "recent_clicks": recent, "noise": rng.normal(size=size)}
    features |= {"item": pl.Series(item).cast(pl.String), "topic": pl.Series(topic).cast(pl.String)}
    return _labelled("clicks", features, ("item", "topic"), 1.5 * logit, 0.02, rng)


_ORDER_SPREADS = {"seller": 0.9, "model": 0.7, "region": 0.5, "warehouse": 0.4, "channel": 0.4, "payment": 0.3}


def _correlated(rng: np.random.Generator, size: int, width: int) -> Floats:
    mixed: Floats = rng.normal(size=(size, width)) @ (np.eye(width) + rng.normal(0, 0.12, (width, width)))
    return mixed


def _labelled(
    name: str, features: dict[str, object], categorical: tuple[str, ...], logit: Floats, rate: float,
    rng: np.random.Generator,
) -> Labelled:  # fmt: skip
    """Rows with labels drawn so that a share of `rate` is positive."""
    chance = 1 / (1 + np.exp(-(logit + _offset(logit, rate))))
    frame = pl.DataFrame(features).with_columns(
        transaction_id=pl.int_range(pl.len()).cast(pl.String),
        event_time=pl.from_epoch(pl.int_range(pl.len()) * 10_000_000, "us").dt.replace_time_zone("UTC"),
        label=pl.Series((rng.random(logit.size) < chance).astype(np.int8)),
    )
    numeric = tuple(column for column in features if column not in categorical)
    pipeline = _pipeline(name, numeric, categorical)
    ends = np.cumsum([0, *ROWS.values()])
    parts = {part: _ordered(pipeline, frame[ends[n] : ends[n + 1]]) for n, part in enumerate(ROWS)}
    return Labelled(pipeline=pipeline, parts=parts, truth=chance[ends[-2] :])


def _offset(logit: Floats, rate: float) -> float:
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(logit + middle)))).mean() < rate else (low, middle)
    return low


def _pipeline(name: str, numeric: tuple[str, ...], categorical: tuple[str, ...]) -> Pipeline:
    """The fraud pipeline under another name and with other features; only training reads it."""
    spec = read_pipeline(FRAUD_SPEC)
    features = spec.features.model_copy(update={"numeric": numeric, "categorical": categorical})
    return spec.model_copy(update={"pipeline": name, "features": features})


def _ordered(pipeline: Pipeline, frame: pl.DataFrame) -> pl.DataFrame:
    features = pipeline.features
    return frame.select("transaction_id", "event_time", "label", *features.numeric, *features.categorical)


SOURCES: dict[str, Callable[[int], Labelled]] = {"fraud": fraud, "orders": orders, "clicks": clicks}
