"""How a model came to be, for its report: the curve it learned by and what that took."""

from __future__ import annotations

import json
from dataclasses import dataclass

from evergreen.artifacts import Model, Receipt
from evergreen.lake.lake import Lake
from evergreen.training.model_files import read_manifest, read_model_file


@dataclass(frozen=True, kw_only=True)
class Point:
    """One epoch of the curve."""

    epoch: int
    loss: float
    average_precision: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """One network of a model, or its trees."""

    kind: str
    weight: float
    """Of its logit in the blend."""
    average_precision: float
    """On the validation days."""
    best: int
    """The epoch whose weights were kept, or the number of trees."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The curve and the parts, empty for a trainer that tells none, and the training's receipt, if it is known."""

    curve: tuple[Point, ...]
    """Of the first network."""
    best_epoch: int | None
    parts: tuple[Part, ...]
    trained: Receipt | None


def read_learning(lake: Lake, model: Model, trained: Receipt | None) -> Learning:
    """What `metrics.json` of the model tells; IntegrityError when it is not the recorded one."""
    manifest = read_manifest(lake, model.uri, model.digest)
    if "metrics.json" not in manifest:
        return Learning(curve=(), best_epoch=None, parts=(), trained=trained)
    metrics = json.loads(read_model_file(lake, model.uri, "metrics.json", manifest))
    curve = tuple(
        Point(epoch=p["epoch"], loss=p["loss"], average_precision=p["average_precision"])
        for p in metrics.get("curve", ())
    )
    parts = tuple(
        Part(kind=m["kind"], weight=m["weight"], average_precision=m["average_precision"], best=m["best"])
        for m in metrics.get("members", ())
    )
    return Learning(curve=curve, best_epoch=metrics.get("best_epoch"), parts=parts, trained=trained)
