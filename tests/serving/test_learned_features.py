"""A model's features mean what they meant when it learned them, whatever the spec says by now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx
import polars as pl
import pytest

from evergreen.artifacts import Model
from evergreen.features.definitions import feature_digests
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline
from evergreen.settings import PROJECT
from serving.test_app import PREDICT, Run, until

SHIPPED = read_pipeline(PROJECT / "include" / "pipelines" / "fraud.yaml")


def _with(**features: Any) -> Pipeline:
    return SHIPPED.model_copy(update={"features": SHIPPED.features.model_copy(update=features)})


def _counting(over: str) -> Pipeline:
    window = SHIPPED.features.windows["card_count_1h"].model_copy(update={"over": over})
    return _with(windows=SHIPPED.features.windows | {"card_count_1h": window})


def _without(name: str) -> Pipeline:
    return _with(numeric=tuple(feature for feature in SHIPPED.features.numeric if feature != name))


def _as_category(name: str) -> Pipeline:
    return _without(name).model_copy(
        update={
            "features": _without(name).features.model_copy(
                update={"categorical": (*SHIPPED.features.categorical, name)}
            )
        }
    )


@pytest.fixture
def fraud() -> Pipeline:
    """The spec that the service was started with: a count over another hour than the model learned."""
    return _counting("2m")


@pytest.fixture
def learned(lake: Lake, make_model: Callable[..., Model], publish: Callable[..., Model]) -> Callable[..., Model]:
    """Publishes a model that learned by `spec`, which the lake has if it was kept."""

    def make(spec: Pipeline, *, kept: bool = True) -> Model:
        manifest = json.dumps({"definitions": feature_digests(spec)}).encode()
        digest = hashlib.sha256(manifest).hexdigest()
        lake.objects.put(f"training_sets/fraud/{digest}/manifest.json", manifest)
        if kept:
            lake.objects.put(f"specs/fraud/{spec.digest}.json", spec.model_dump_json().encode())
        return publish(model=make_model(lake, spec, training_set=digest))

    return make


@pytest.mark.parametrize("spec", [_counting("1h"), _counting("2m")], ids=["an earlier spec", "the spec here"])
def test_a_redefined_feature_is_served_as_the_model_learned_it(
    in_process: Run,
    learned: Callable[..., Model],
    transactions: Any,
    logged: Callable[[], pl.DataFrame],
    spec: Pipeline,
) -> None:
    learned(spec)

    async def scenario(client: httpx.AsyncClient) -> None:
        for row in transactions(6):
            assert (await client.post(PREDICT, json=row)).status_code == 200

    in_process(scenario)
    counts = logged().sort("event_time")["card_count_1h"].to_list()
    assert counts == ([0, 1, 2, 3, 4, 5] if spec == _counting("1h") else [0, 1, 2, 2, 2, 2])


@pytest.mark.parametrize("fraud", [_without("card_count_1h"), _as_category("card_count_1h")], ids=["gone", "category"])
def test_a_feature_that_the_spec_no_longer_has_is_still_served(
    in_process: Run,
    learned: Callable[..., Model],
    transactions: Any,
    logged: Callable[[], pl.DataFrame],
    fraud: Pipeline,
) -> None:
    model = learned(SHIPPED)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json=transactions()[0])
        assert answer.json()["version"] == model.version

    in_process(scenario)
    assert "card_count_1h" not in fraud.features.categorical or logged()["card_count_1h"].to_list() == [None]


@pytest.mark.parametrize(("spec", "kept"), [(_counting("1h"), False), (_counting("30d"), True)], ids=["lost", "longer"])
def test_a_feature_that_cannot_be_computed_as_learned_refuses_the_model(
    in_process: Run, learned: Callable[..., Model], transactions: Any, spec: Pipeline, kept: bool
) -> None:
    model = learned(spec, kept=kept)

    async def scenario(client: httpx.AsyncClient) -> None:
        state = await until(client, lambda state: state["refusal"] is not None)
        assert (state["version"], state["published"]) == (None, model.version)
        assert "inputs ['card_count_1h'] that it learned by another definition" in state["refusal"]
        assert (await client.get("/readyz")).status_code == 503
        answer = await client.post(PREDICT, json=transactions()[0])
        assert "card_count_1h" in answer.json()["error"]["found"]

    in_process(scenario, ready=False)


def test_a_refused_model_leaves_the_one_that_serves(
    in_process: Run, learned: Callable[..., Model], transactions: Any
) -> None:
    good = learned(_counting("2m"))

    async def scenario(client: httpx.AsyncClient) -> None:
        learned(_counting("30d"))
        state = await until(client, lambda state: state["refusal"] is not None)
        assert state["version"] == good.version
        assert (await client.post(PREDICT, json=transactions()[0])).status_code == 200

    in_process(scenario)


def test_a_spec_of_another_contract_is_passed_over(in_process: Run, learned: Callable[..., Model], lake: Lake) -> None:
    older = _counting("1h").model_dump(mode="json")
    older["features"]["windows"]["card_count_1h"]["by"] = ["gone"]
    lake.objects.put("specs/fraud/0.json", json.dumps(older).encode())
    model = learned(_counting("1h"))

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/fraud")).json()["version"] == model.version

    in_process(scenario)
