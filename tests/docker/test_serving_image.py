"""The serving image serves, locked down, with the scores and features that this process computes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from docker.conftest import ImagePods, hand_over
from evergreen.artifacts import Model
from evergreen.lake.arrivals import take_in
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import clean_requests
from serving.conftest import NOON

pytestmark = pytest.mark.cluster

TOKEN = "a-token-for-this-test"
WAIT_SECONDS = 240.0
SHIPPED = ["evergreen.features.shipped_kernels", "builtin_function_or_method"]
"""Module and type of a kernel that was compiled with the image."""
MOST_BYTES = 400e6
SIZE = """
import os
root = os.stat("/").st_dev
seen = {}
for folder, folders, files in os.walk("/"):
    found = {name: os.lstat(f"{folder}/{name}") for name in folders + files}
    folders[:] = [name for name in folders if found[name].st_dev == root]
    seen |= {stat.st_ino: stat.st_blocks * 512 for stat in found.values() if stat.st_dev == root}
print(sum(seen.values()))
"""
ABSENT = """
from importlib.util import find_spec
names = "torch onnx matplotlib duckdb deltalake numba pyarrow sqlalchemy airflow kubernetes pip".split()
print([name for name in names if find_spec(name)])
"""


def test_served_scores_are_those_of_this_process_to_the_bit(
    pods: ImagePods,
    serving_image: str,
    lake: Lake,
    fraud: Pipeline,
    publish: Callable[..., Model],
    in_process: Callable[..., None],
    tmp_path: Path,
) -> None:
    publish()
    _history(lake, fraud)
    inside = Lake((tmp_path / "inside").as_uri())
    shutil.copytree(tmp_path / "lake", tmp_path / "inside")
    requests = {"rows": _requests(fraud)}

    outside_answers = []

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/fraud/predict", json=requests)
        outside_answers.append(answer.raise_for_status().json())

    in_process(scenario)
    name = pods.start(serving_image, lake=inside, EVERGREEN_SERVING_TOKEN=TOKEN)
    url = f"http://{pods.wait(name, 'Running').status.pod_ip}:8000"
    _wait_until_ready(url, pods, name)
    with httpx.Client(base_url=url, timeout=WAIT_SECONDS) as client:
        assert client.get("/livez").status_code == 200
        answer = client.post("/v1/fraud/predict", json=requests, headers={"Authorization": f"Bearer {TOKEN}"})
        assert client.post("/v1/fraud/predict", json=requests).status_code == 401
    pods.delete(name)
    scores = [row["score"] for row in answer.raise_for_status().json()["predictions"]]
    assert len(set(scores)) > 10
    assert scores == [row["score"] for row in outside_answers[0]["predictions"]]
    features = [*fraud.features.numeric, *fraud.features.categorical]
    assert _logged(inside).select(features).equals(_logged(lake).select(features))


def test_serving_beyond_loopback_needs_a_token(pods: ImagePods, serving_image: str) -> None:
    name = pods.start(serving_image)
    pods.wait(name, "Failed")
    assert "EVERGREEN_SERVING_TOKEN" in pods.log(name)


def test_nothing_that_serving_never_imports_is_in_its_image(pods: ImagePods, serving_image: str) -> None:
    assert pods.run(serving_image, ["python", "-c", ABSENT]).strip() == "[]"


def test_compiled_kernels_come_with_the_serving_image(pods: ImagePods, serving_image: str) -> None:
    program = "from evergreen.features.kernels import trailing_sums as f; print(f.__module__, type(f).__name__)"
    assert pods.run(serving_image, ["python", "-c", program]).split() == SHIPPED


def test_the_serving_image_is_small(pods: ImagePods, serving_image: str) -> None:
    size = int(pods.run(serving_image, ["python", "-c", SIZE]))
    assert 100e6 < size < MOST_BYTES


def _history(lake: Lake, pipeline: Pipeline) -> None:
    for back in (2, 1):
        day = NOON.date() - timedelta(days=back)
        rows = clean_requests(SampleConfig(rows_per_day=500), day).select(*pipeline.contract.columns, "event_time")
        rows = rows.with_columns(
            pl.col("event_time").alias("known_at"), superseded_at=pl.lit(None, pl.Datetime("us", "UTC"))
        )
        lake.table("clean", pipeline.pipeline).replace_day(day, rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    publish_days(lake, "clean", pipeline.pipeline)


def _requests(pipeline: Pipeline) -> list[dict[str, Any]]:
    rows = clean_requests(SampleConfig(rows_per_day=500), NOON.date())[:20]
    rows = rows.select(*pipeline.contract.columns, pl.col("event_time").dt.to_string("iso:strict").alias("event_time"))
    return rows.to_dicts()


def _wait_until_ready(url: str, pods: ImagePods, name: str) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < give_up_at:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(pods.log(name))


def _logged(lake: Lake) -> pl.DataFrame:
    """Predictions in the lake, in order of their key."""
    hand_over(lake)
    take_in(lake, "predictions", "fraud")
    table = lake.table("predictions", "fraud")
    return pl.DataFrame(table.read([day.day for day in table.days()])).sort("key")
