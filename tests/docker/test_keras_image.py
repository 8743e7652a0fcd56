"""The Keras trainer's image trains, locked down, and its models score inside as they do outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from docker.conftest import ImagePods
from docker.training_pods import assert_scores_alike, train_inside
from evergreen.artifacts import TrainingSet
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

pytestmark = pytest.mark.cluster

ABSENT = """
from importlib.util import find_spec
print([name for name in ("airflow", "torch", "lightgbm", "kubernetes", "pip") if find_spec(name)])
"""


def test_a_model_keras_trained_inside_scores_the_same_inside_and_outside_to_the_bit(
    pods: ImagePods,
    keras_image: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
) -> None:
    training_set = make_training_set(lake, tiny)
    model = train_inside(pods, keras_image, lake, tiny, training_set, module="keras_trainer")
    assert_scores_alike(pods, keras_image, lake, model, training_set)


def test_nothing_of_the_orchestrator_or_of_torch_is_in_the_keras_image(pods: ImagePods, keras_image: str) -> None:
    assert pods.run(keras_image, ["python", "-c", ABSENT]).strip() == "[]"
