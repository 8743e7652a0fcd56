"""The service over ASGI, in this process."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any

import anyio
import httpx
import polars as pl
import pytest

from evergreen.artifacts import Model
from evergreen.lake.deployments import current_path
from evergreen.lake.lake import Lake
from evergreen.serving.predictor import Predictions, Predictor

PREDICT = "/v1/fraud/predict"
Run = Callable[..., None]


async def until(client: httpx.AsyncClient, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What GET /v1/fraud says once it is `good`."""
    with anyio.fail_after(240):
        while True:
            state: dict[str, Any] = (await client.get("/v1/fraud")).json()
            if good(state):
                return state
            await anyio.sleep(0.02)


def test_predictions_come_back_in_order_and_reach_the_lake(
    in_process: Run, publish: Callable[..., Model], transactions: Any, logged: Callable[[], pl.DataFrame]
) -> None:
    model = publish()
    answers: list[dict[str, Any]] = []

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"rows": transactions(20)})
        assert answer.status_code == 200
        answers.append(answer.json())

    in_process(scenario)
    (answer,) = answers
    rows = logged()
    assert answer["version"] == model.version
    assert [p["key"] for p in answer["predictions"]] == [f"t{n}" for n in range(20)]
    expected = [1 / (1 + math.exp(4 - math.log1p((1000 + n) / 100))) for n in range(20)]
    assert [p["score"] for p in answer["predictions"]] == pytest.approx(expected, abs=1e-6)
    assert {p["decision"] for p in answer["predictions"]} == {"review"}
    assert rows["prediction_id"].to_list() == [p["prediction_id"] for p in answer["predictions"]]
    assert rows["prediction_id"].n_unique() == 20
    assert rows["score"].to_list() == pytest.approx(expected, abs=1e-6)
    assert rows["version"].unique().to_list() == [model.version]
    assert rows["channel"].unique().to_list() == ["online"]


def test_a_served_event_counts_in_the_next_ones_windows(
    in_process: Run, publish: Callable[..., Model], transactions: Any, logged: Callable[[], pl.DataFrame]
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        rows = transactions(6)
        for row in rows[:3]:
            await client.post(PREDICT, json=row)
        await client.post(PREDICT, json={"rows": rows[3:]})

    in_process(scenario)
    assert logged().sort("event_time")["card_count_1h"].to_list() == [0, 1, 2, 3, 4, 5]


def test_a_probe_scores_and_leaves_no_trace(
    in_process: Run, publish: Callable[..., Model], logged: Callable[[], pl.DataFrame]
) -> None:
    model = publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = (await client.post("/v1/fraud/probe")).json()
        assert answer["version"] == model.version
        assert all(0 <= p["score"] <= 1 for p in answer["predictions"])
        assert 'evergreen_history_rows{pipeline="fraud"} 0.0' in (await client.get("/metrics")).text

    in_process(scenario)
    assert logged().height == 0


def test_without_a_model_the_remedy_is_named(in_process: Run, transactions: Any) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(PREDICT, json={"rows": transactions()})
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "fraud.deploy_model" in answer.json()["error"]["remedy"]
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).json()["ready"]

    in_process(scenario)


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"amount_cents": "12"}, 422, "amount_cents"),
        ({"colour": 1}, 422, "colour"),
        ({"card_id": None}, 422, "card_id"),
    ],
)
def test_a_wrong_field_is_named(
    in_process: Run, publish: Callable[..., Model], transactions: Any, change: dict[str, Any], status: int, field: str
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        rows = transactions(3)
        rows[2] |= change
        answer = await client.post(PREDICT, json={"rows": rows})
        error = answer.json()["error"]
        assert (answer.status_code, error["field"], error["row"]) == (status, field, 2)
        assert (
            f'evergreen_requests_total{{pipeline="fraud",status="{status}"}} 1.0' in (await client.get("/metrics")).text
        )

    in_process(scenario)


def test_bad_json_and_unknown_pipelines_are_told_apart(
    in_process: Run, publish: Callable[..., Model], transactions: Any
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.post(PREDICT, content=b"{")).status_code == HTTPStatus.BAD_REQUEST
        lost = await client.post("/v1/other/predict", json={"rows": transactions()})
        assert lost.status_code == HTTPStatus.NOT_FOUND
        assert "fraud" in lost.json()["error"]["wanted"]
        assert (await client.get(PREDICT)).status_code == HTTPStatus.METHOD_NOT_ALLOWED

    in_process(scenario)


def test_too_many_rows_or_bytes_are_too_large(
    in_process: Run, publish: Callable[..., Model], transactions: Any
) -> None:
    publish()

    async def chunks() -> Any:
        for _ in range(10):
            yield b" " * 5000

    async def scenario(client: httpx.AsyncClient) -> None:
        for sent in ({"json": {"rows": transactions(31)}}, {"content": b" " * 20_001}, {"content": chunks()}):
            answer = await client.post(PREDICT, **sent)
            assert answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    in_process(scenario)


def test_requests_beyond_the_limit_are_refused_unread(
    in_process: Run, publish: Callable[..., Model], transactions: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    enough, read, predict = threading.Event(), [], Predictor.predict

    def slowly(self: Predictor, body: bytes, now: datetime) -> Predictions:
        enough.wait(600)
        return predict(self, body, now)

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield json.dumps(transactions()[0]).encode()

    async def scenario(client: httpx.AsyncClient) -> None:
        monkeypatch.setattr(Predictor, "predict", slowly)
        answers: list[httpx.Response] = []

        async def one() -> None:
            answers.append(await client.post(PREDICT, content=body()))

        async with anyio.create_task_group() as group:
            for _ in range(28):
                group.start_soon(one)
            with anyio.move_on_after(240):
                while len(answers) < 3:
                    await anyio.sleep(0.02)
            enough.set()
        assert [answer.status_code for answer in answers] == [503] * 3 + [200] * 25
        assert answers[0].headers["retry-after"] == "1"
        assert "fewer than 25" in answers[0].json()["error"]["wanted"]
        assert len(read) == 25
        assert (await client.post(PREDICT, json=transactions()[0])).status_code == 200

    in_process(scenario)


def test_a_body_that_does_not_come_gives_its_place_back(
    in_process: Run, publish: Callable[..., Model], transactions: Any
) -> None:
    publish()

    async def silence() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep(600)

    async def scenario(client: httpx.AsyncClient) -> None:
        async def one() -> None:
            answer = await client.post(PREDICT, content=silence())
            assert answer.status_code == HTTPStatus.REQUEST_TIMEOUT

        with anyio.fail_after(240):
            async with anyio.create_task_group() as group:
                for _ in range(25):
                    group.start_soon(one)
        assert (await client.post(PREDICT, json=transactions()[0])).status_code == 200

    in_process(scenario)


def test_a_token_is_asked_for_when_there_is_one(
    in_process: Run, publish: Callable[..., Model], transactions: Any
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
            answer = await client.post(PREDICT, json=transactions()[0], headers=header)
            assert answer.status_code == HTTPStatus.UNAUTHORIZED
            assert answer.headers["www-authenticate"] == "Bearer"
        good = await client.post(PREDICT, json=transactions()[0], headers={"authorization": "Bearer secret"})
        assert good.status_code == 200

    in_process(scenario, token="secret")


def test_a_corrupt_model_is_refused_and_the_old_one_keeps_serving(
    in_process: Run, publish: Callable[..., Model], make_model: Any, lake: Lake, fraud: Any, transactions: Any
) -> None:
    good = publish(1.0)
    bad = make_model(lake, fraud, slope=2.0)
    sound = lake.objects.get(f"{bad.uri}/model.onnx")
    lake.objects.put(f"{bad.uri}/model.onnx", b"not what was trained")

    async def scenario(client: httpx.AsyncClient) -> None:
        publish(model=bad)
        state = await until(client, lambda state: state["published"] == bad.version)
        state = await until(client, lambda state: state["refusal"] is not None)
        assert state["version"] == good.version
        ready = await client.get("/readyz")
        assert ready.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "model.onnx: found digest" in ready.json()["pipelines"]["fraud"]["errors"][0]
        assert "evergreen_model_load_failures_total" in (await client.get("/metrics")).text
        answer = await client.post(PREDICT, json=transactions()[0])
        assert answer.json()["version"] == good.version
        lake.objects.put(f"{bad.uri}/model.onnx", sound)
        state = await until(client, lambda state: state["version"] == bad.version)
        assert state["refusal"] is None
        assert state["ready"]

    in_process(scenario)


def test_current_json_that_is_no_deployment_changes_nothing(
    in_process: Run, publish: Callable[..., Model], lake: Lake
) -> None:
    model = publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        lake.objects.put("deployments/fraud/current.json", b"{}")
        state = await until(client, lambda state: bool(state["errors"]))
        assert state["version"] == model.version
        assert "current.json" in state["errors"][0]

    in_process(scenario)


def test_an_error_of_reading_the_lake_goes_with_it(in_process: Run, publish: Callable[..., Model], lake: Lake) -> None:
    publish()
    sound = lake.objects.get(current_path("fraud"))

    async def scenario(client: httpx.AsyncClient) -> None:
        lake.objects.put(current_path("fraud"), b"{}")
        await until(client, lambda state: bool(state["errors"]))
        lake.objects.put(current_path("fraud"), sound)
        state = await until(client, lambda state: not state["errors"])
        assert state["ready"]

    in_process(scenario)


def test_after_an_error_of_reading_the_lake_there_is_no_model_yet_again(
    in_process: Run, transactions: Any, lake: Lake
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        lake.objects.put(current_path("fraud"), b"{}")
        await until(client, lambda state: bool(state["errors"]))
        answer = await client.post(PREDICT, json=transactions()[0])
        assert "current.json" in answer.json()["error"]["found"]
        lake.objects.delete(current_path("fraud"))
        await until(client, lambda state: not state["errors"])
        answer = await client.post(PREDICT, json=transactions()[0])
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert answer.json()["error"]["found"] == "no model yet"

    in_process(scenario)


def test_an_unwritable_lake_never_stops_predictions(
    in_process: Run, publish: Callable[..., Model], transactions: Any, lake: Lake, logged: Callable[[], pl.DataFrame]
) -> None:
    publish()
    blocker = lake.objects.root / "predictions"  # type: ignore[attr-defined]

    async def scenario(client: httpx.AsyncClient) -> None:
        blocker.write_text("in the way of the table")
        for row in transactions(3):
            assert (await client.post(PREDICT, json=row)).status_code == 200
        await until(client, lambda state: bool(state["errors"]))
        assert 'evergreen_prediction_backlog_rows{pipeline="fraud"} 3.0' in (await client.get("/metrics")).text
        blocker.unlink()

    in_process(scenario)
    assert sorted(logged()["key"]) == ["t0", "t1", "t2"]


def test_the_description_names_the_row_and_the_signature(
    in_process: Run, publish: Callable[..., Model], fraud: Any
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        state = (await client.get("/v1/fraud")).json()
        amount = state["row"]["amount_cents"]
        assert (amount["type"], amount["nullable"], amount["unit"]) == ("integer", False, "cents of currency")
        assert state["signature"]["numeric"] == list(fraud.features.numeric)
        assert state["since"]

    in_process(scenario)


def test_concurrent_requests_are_each_answered_with_their_own(
    in_process: Run, publish: Callable[..., Model], transactions: Any, logged: Callable[[], pl.DataFrame]
) -> None:
    publish()

    async def scenario(client: httpx.AsyncClient) -> None:
        async def one(name: str) -> None:
            answer = await client.post(PREDICT, content=json.dumps(transactions(2, prefix=name)[1]))
            assert [p["key"] for p in answer.json()["predictions"]] == [f"{name}1"]

        async with anyio.create_task_group() as group:
            for n in range(25):
                group.start_soon(one, f"n{n}-")

    in_process(scenario)
    assert logged().height == 25
