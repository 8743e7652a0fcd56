"""Models deployed in a lake, transactions to send, and the service in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import polars as pl
import pytest

from evergreen.artifacts import Deployment, Model
from evergreen.lake.arrivals import take_in
from evergreen.lake.deployments import publish_deployment
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.app import create_app
from evergreen.serving.config import ServingConfig
from evergreen.serving.service import Service

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
Transactions = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def transactions() -> Transactions:
    """Makes transactions of one card as a client would send them, a minute apart."""

    def make(count: int = 1, *, prefix: str = "t", start: datetime = NOON) -> list[dict[str, Any]]:
        return [
            {
                "transaction_id": f"{prefix}{n}",
                "card_id": "c1",
                "customer_id": "u1",
                "merchant_id": "m1",
                "amount_cents": 1000 + n,
                "currency": "EUR",
                "mcc": "5411",
                "merchant_country": "DE",
                "card_country": "DE",
                "channel": "online",
                "device_id": "d1",
                "event_time": (start + timedelta(minutes=n)).isoformat(),
            }
            for n in range(count)
        ]

    return make


@pytest.fixture
def publish(lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]) -> Callable[..., Model]:
    """Stores a model and publishes it as the current deployment."""
    sequences: Iterator[int] = iter(range(1, 10**6))

    def make(slope: float = 1.0, model: Model | None = None) -> Model:
        chosen = model or make_model(lake, fraud, slope=slope)
        deployment = Deployment(
            pipeline="fraud",
            sequence=next(sequences),
            at=NOON,
            from_version=None,
            to_version=chosen.version,
            model_uri=chosen.uri,
            model_digest=chosen.digest,
            actor="tester",
            reason="a test",
        )
        publish_deployment(lake, deployment)
        return chosen

    return make


@pytest.fixture
def config() -> ServingConfig:
    """Quick rhythms and low limits."""
    return ServingConfig(
        max_body_bytes=20_000,
        max_rows=30,
        max_requests=25,
        body_seconds=5.0,
        model_poll_seconds=0.05,
        history_poll_seconds=0.05,
        retry_seconds=0.2,
        flush_seconds=0.05,
    )


Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def in_process(lake: Lake, fraud: Pipeline, tmp_path: Path, config: ServingConfig) -> Callable[..., None]:
    """Runs a scenario against the service inside this process, from its start to its clean stop."""

    @asynccontextmanager
    async def running(token: str | None) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app({"fraud": Service(fraud, lake, tmp_path / "journal", config)}, config, token=token)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://serving") as client,
        ):
            yield client

    def run(scenario: Scenario, *, token: str | None = None, ready: bool = True) -> None:
        async def whole() -> None:
            async with running(token) as client:
                with anyio.fail_after(240):
                    while ready and (await client.get("/readyz")).status_code != 200:
                        await anyio.sleep(0.02)
                await scenario(client)

        anyio.run(whole)

    return run


@pytest.fixture
def logged(lake: Lake) -> Callable[[], pl.DataFrame]:
    """Reads the predictions that are in the lake."""

    def read() -> pl.DataFrame:
        take_in(lake, "predictions", "fraud")
        table = lake.table("predictions", "fraud")
        days = [day.day for day in table.days()]
        return pl.DataFrame(table.read(days)) if days else pl.DataFrame({"prediction_id": [], "key": []})

    return read
