"""A served event gets the features that a batch over the same events gives it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import httpx
import polars as pl
from polars.testing import assert_frame_equal

from evergreen.artifacts import Model
from evergreen.features.compute import compute_features
from evergreen.lake.lake import Lake
from evergreen.lake.published_days import publish_days
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import clean_requests

DAY = date(2026, 11, 10)
SERVED = 120


def sample_day(pipeline: Pipeline, day: date) -> pl.DataFrame:
    """Sound sample events, known at once."""
    rows = clean_requests(SampleConfig(rows_per_day=2000), day).select(*pipeline.contract.columns, "event_time")
    return rows.with_columns(
        pl.col("event_time").alias("known_at"), superseded_at=pl.lit(None, pl.Datetime("us", "UTC"))
    )


def test_features_served_one_by_one_equal_those_of_a_batch(
    in_process: Callable[..., None],
    publish: Callable[..., Model],
    fraud: Pipeline,
    lake: Lake,
    logged: Callable[[], pl.DataFrame],
) -> None:
    publish()
    past = pl.concat([sample_day(fraud, DAY - timedelta(days=back)) for back in (2, 1)])
    for back in (2, 1):
        rows = sample_day(fraud, DAY - timedelta(days=back))
        oldest = pl.CompatLevel.oldest()
        lake.table("clean", "fraud").replace_day(DAY - timedelta(days=back), rows.to_arrow(compat_level=oldest))
    publish_days(lake, "clean", "fraud")
    new = sample_day(fraud, DAY)[:SERVED]
    sent = (
        new.drop("known_at", "superseded_at").with_columns(pl.col("event_time").dt.to_string("iso:strict")).to_dicts()
    )

    async def scenario(client: httpx.AsyncClient) -> None:
        requests: list[Any] = [*sent[:40], *({"rows": sent[n : n + 20]} for n in range(40, SERVED, 20))]
        for request in requests:
            assert (await client.post("/v1/fraud/predict", json=request)).status_code == 200

    in_process(scenario)
    names = [*fraud.features.numeric, *fraud.features.categorical]
    batch = compute_features(fraud, new, pl.concat([past, new]))
    served = new.select(pl.col("transaction_id").alias("key")).join(logged(), on="key", maintain_order="left")
    assert batch["card_count_7d"].max() > 1
    windows = [name for name in fraud.features.windows if name in names]
    assert_frame_equal(served.select(windows), batch.select(windows), check_exact=True)
    # log1p of one value and of many takes different machine code: the last bit of a float64 may differ
    assert_frame_equal(served.select(names), batch.select(names), rel_tol=1e-15, abs_tol=0)
