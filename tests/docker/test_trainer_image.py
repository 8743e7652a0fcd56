"""The trainer image trains, locked down, and its models score inside as they do outside."""

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
print([name for name in ("airflow", "great_expectations", "kubernetes", "pip") if find_spec(name)])
"""
SHIPPED = ["evergreen.features.shipped_kernels", "builtin_function_or_method"]


def test_a_model_trained_inside_scores_the_same_inside_and_outside_to_the_bit(
    pods: ImagePods,
    trainer_image: str,
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
) -> None:
    training_set = make_training_set(lake, tiny)
    model = train_inside(pods, trainer_image, lake, tiny, training_set, module="evergreen.step")
    assert_scores_alike(pods, trainer_image, lake, model, training_set)


def test_nothing_of_the_orchestrator_is_in_the_trainer_image(pods: ImagePods, trainer_image: str) -> None:
    assert pods.run(trainer_image, ["python", "-c", ABSENT]).strip() == "[]"


def test_compiled_kernels_come_with_the_trainer_image(pods: ImagePods, trainer_image: str) -> None:
    program = "from evergreen.features.kernels import trailing_sums as f; print(f.__module__, type(f).__name__)"
    assert pods.run(trainer_image, ["python", "-c", program]).split() == SHIPPED
