"""Milliseconds and rows a second of one serving process, on the sample's transactions.

    python benchmarks/serving.py [--rows-per-day 20000]

Eight clean days of history, a toy network of 2 x 256; the whole way from a request's bytes to the bytes of its
answer, journal included, without HTTP, on one thread.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from evergreen.artifacts import Deployment, Model
from evergreen.lake.deployments import publish_deployment
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import clean_requests
from evergreen.serving.config import ServingConfig
from evergreen.serving.service import Service
from evergreen.settings import PROJECT
from evergreen.training.model_files import store_model

DAY = date(2026, 11, 10)
HIDDEN = 256


def main() -> None:
    """Prints one line a request size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-per-day", type=int, default=20_000)
    sample = SampleConfig(rows_per_day=parser.parse_args().rows_per_day)
    logging.basicConfig(level=logging.WARNING)
    pipeline = read_pipeline(PROJECT / "include" / "pipelines" / "fraud.yaml")
    with TemporaryDirectory() as folder:
        lake = Lake(Path(folder, "lake").as_uri())
        for back in range(8, 0, -1):
            write_day(lake, pipeline, sample, DAY - timedelta(days=back))
        deploy(lake, pipeline, store_network(lake, pipeline))
        service = Service(pipeline, lake, Path(folder, "journal"), ServingConfig())
        service.history.refresh()
        service.follower.look(datetime.now(UTC))
        requests = clean_requests(sample, DAY).select(*pipeline.contract.columns, "event_time")
        print(f"{service.history.num_rows} rows of history")
        start = 0
        for rows, repeats in ((1, 400), (10, 200), (100, 60), (1000, 8)):
            bodies = [body(requests[start + n * rows : start + (n + 1) * rows]) for n in range(repeats)]
            start += rows * repeats
            report(rows, [milliseconds(service, sent) for sent in bodies])
        started = time.perf_counter()
        service.history.refresh()
        service.log.flush()
        print(f"refresh and flush: {time.perf_counter() - started:.2f} s")


def write_day(lake: Lake, pipeline: Pipeline, sample: SampleConfig, day: date) -> None:
    """Writes a sample day to the clean zone."""
    rows = clean_requests(sample, day).select(*pipeline.contract.columns, "event_time")
    rows = rows.with_columns(
        pl.col("event_time").alias("known_at"), superseded_at=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    lake.table("clean", pipeline.pipeline).replace_day(day, rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    publish_days(lake, "clean", pipeline.pipeline)


def body(rows: pl.DataFrame) -> bytes:
    """A request as a client would send it."""
    sent: list[dict[str, Any]] = rows.with_columns(pl.col("event_time").dt.to_string("iso:strict")).to_dicts()
    return json.dumps({"rows": sent}).encode()


def milliseconds(service: Service, sent: bytes) -> tuple[float, float]:
    """How long one request takes, and how much processor time it uses on all threads."""
    started, used = time.perf_counter(), time.process_time()
    service.predictor.predict(sent, datetime.now(UTC)).to_json()
    return (time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000


def report(rows: int, taken: list[tuple[float, float]]) -> None:
    """Prints quantiles and throughput; processor time is what a busy machine does not distort."""
    elapsed, used = np.array(taken).T
    p50, p99 = np.percentile(elapsed, (50, 99))
    print(
        f"{rows:5} rows/request: p50 {p50:7.2f} ms  p99 {p99:7.2f} ms; "
        f"CPU p50 {np.median(used):7.2f} ms  {rows / np.median(used) * 1000:6.0f} rows/CPU s"
    )


def deploy(lake: Lake, pipeline: Pipeline, model: Model) -> None:
    """Publishes the model."""
    publish_deployment(
        lake,
        Deployment(
            pipeline=pipeline.pipeline,
            sequence=1,
            at=datetime.now(UTC),
            from_version=None,
            to_version=model.version,
            model_uri=model.uri,
            model_digest=model.digest,
            actor="benchmark",
            reason="benchmark",
        ),
    )


def store_network(lake: Lake, pipeline: Pipeline) -> Model:
    """A stored network with random weights; categories are taken but not looked at."""
    features, rng = pipeline.features, np.random.default_rng(0)
    sizes = (len(features.numeric), HIDDEN, HIDDEN, 1)
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "numeric"], ["x0"]),
    ]
    weights = [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.array([-1]), "flat")]
    for layer, shape in enumerate(pairwise(sizes)):
        matrix = (rng.normal(size=shape) / 100).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
        nodes.append(helper.make_node("Sigmoid", [f"y{layer}"], [f"x{layer + 1}"]))
    nodes.append(helper.make_node("Reshape", [f"x{len(sizes) - 1}", "flat"], ["score"]))
    inputs = [
        helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["B", len(features.numeric)]),
        helper.make_tensor_value_info("categorical", TensorProto.STRING, ["B", len(features.categorical)]),
    ]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"])]
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        signature = {"numeric": features.numeric, "categorical": features.categorical}
        (folder / "signature.json").write_text(json.dumps(signature))
        as_of = datetime(2026, 11, 9, tzinfo=UTC)
        return store_model(lake, folder, pipeline=pipeline.pipeline, as_of=as_of, training_set="0" * 64, seed=0)


if __name__ == "__main__":
    main()
