"""What metrics.json may tell the report, and what is drawn where it tells it in another shape."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evergreen.artifacts import Model
from evergreen.evaluation.learning import Learning, Part, Point, read_learning
from evergreen.lake.lake import Lake
from evergreen.training.model_files import store_model

POINT = {"epoch": 1, "loss": 0.5, "average_precision": 0.25}
MEMBER = {"kind": "network", "weight": 1.0, "average_precision": 0.25, "best": 1}
NOTHING = Learning(curve=(), best_epoch=None, parts=(), trained=None)


@pytest.fixture
def make_telling(lake: Lake, tmp_path: Path) -> Callable[[str], Model]:
    """Makes a model whose trainer wrote a text as metrics.json."""

    def make(text: str) -> Model:
        folder = tmp_path / "model"
        folder.mkdir()
        for name, content in {"model.onnx": "", "signature.json": "{}", "metrics.json": text}.items():
            (folder / name).write_text(content)
        as_of = datetime(2026, 11, 2, tzinfo=UTC)
        return store_model(lake, folder, pipeline="fraud", as_of=as_of, training_set="0" * 64, seed=7)

    return make


def test_curve_and_members_are_read_whatever_stands_beside_them(
    lake: Lake, make_telling: Callable[[str], Model], caplog: pytest.LogCaptureFixture
) -> None:
    told = {"average_precision": 0.25, "best_epoch": 1, "curve": [POINT], "members": [MEMBER | {"steps": 3}]}
    assert read_learning(lake, make_telling(json.dumps(told)), None) == Learning(
        curve=(Point(**POINT),), best_epoch=1, parts=(Part(**MEMBER),), trained=None
    )
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"curve": [0.5, 0.4]}, "curve.0"),
        ({"curve": {"loss": [0.5, 0.4]}}, "curve"),
        ({"curve": None}, "curve"),
        ({"curve": [POINT, {"epoch": 2, "loss": 0.4}]}, "curve.1.average_precision"),
        ({"curve": [POINT], "members": [MEMBER | {"weight": "half"}]}, "members.0.weight"),
        ({"members": 3}, "members"),
        ({"curve": [POINT], "best_epoch": "last"}, "best_epoch"),
        ([POINT], "the file"),
    ],
)
def test_another_shape_is_said_once_and_nothing_is_drawn(
    lake: Lake, make_telling: Callable[[str], Model], caplog: pytest.LogCaptureFixture, told: object, field: str
) -> None:
    caplog.set_level(logging.WARNING)
    model = make_telling(json.dumps(told))
    assert read_learning(lake, model, None) == NOTHING
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{model.uri}/metrics.json, {field}: found ")


def test_trainer_without_metrics_tells_nothing(lake: Lake, make_model: Callable[..., Model], fraud: object) -> None:
    assert read_learning(lake, make_model(lake, fraud), None) == NOTHING
