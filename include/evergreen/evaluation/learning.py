"""How a model came to be, for its report: the curve it learned by and what that took."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from evergreen.artifacts import Model, Receipt
from evergreen.lake.lake import Lake
from evergreen.training.model_files import METRICS, read_manifest, read_model_file

logger = logging.getLogger(__name__)


class Point(BaseModel):
    """One epoch of the curve."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    loss: float
    average_precision: float


class Part(BaseModel):
    """One network of a model, or its trees."""

    model_config = ConfigDict(frozen=True)

    kind: str
    weight: float
    """Of its logit in the blend."""
    average_precision: float
    """On the validation days."""
    best: int
    """The epoch whose weights were kept, or the number of trees."""


class Told(BaseModel):
    """What the report takes from metrics.json, all of which a trainer may leave out."""

    model_config = ConfigDict(frozen=True)

    curve: tuple[Point, ...] = ()
    best_epoch: int | None = None
    members: tuple[Part, ...] = ()


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
    data = read_model_file(lake, model.uri, METRICS, manifest) if METRICS in manifest else b"{}"
    told = _told(data, f"{model.uri}/{METRICS}")
    return Learning(curve=told.curve, best_epoch=told.best_epoch, parts=told.members, trained=trained)


def _told(data: bytes, path: str) -> Told:
    """What `data` tells; nothing, and a warning, in a shape that the report does not know."""
    try:
        return Told.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        logger.warning(
            "%s, %s: found %.80r (%s); the report draws no curve and no parts",
            path,
            field,
            first["input"],
            first["msg"],
        )
        return Told()
