"""A stored model scores as its graph says, and altered bytes are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from evergreen.artifacts import Model
from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.training.scorer import Scorer


def _rows(pipeline: Pipeline, amounts: list[float | None]) -> pl.DataFrame:
    columns = {name: amounts if name == "amount" else [0.0] * len(amounts) for name in pipeline.features.numeric}
    return pl.DataFrame(columns | {name: ["x"] * len(amounts) for name in pipeline.features.categorical})


def test_scores_are_the_graphs(lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]) -> None:
    model = make_model(lake, fraud, slope=2.0)
    scores = Scorer.load(lake, model.uri, model.digest).score(_rows(fraud, [4.0, 5.0, None]))
    assert np.allclose(scores, [0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(8))], atol=1e-6)


def test_altered_model_is_refused_by_name(lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]) -> None:
    model = make_model(lake, fraud)
    path = f"{model.uri}/model.onnx"
    lake.objects.put(path, lake.objects.get(path)[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        Scorer.load(lake, model.uri, model.digest)
