"""Live traffic: sends a day's sample transactions to the serving microservice, as a client would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import httpx
import polars as pl

from evergreen.errors import SourceUnavailable
from evergreen.lake.arrivals import take_in
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import clean_requests

ROWS_PER_REQUEST = 1000


def send_day(
    url: str,
    token: str | None,
    pipeline: Pipeline,
    config: SampleConfig,
    day: date,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> int:
    """Transactions of `day` that were scored, in the order in which they happened; `token` if serving asks for one."""
    rows = clean_requests(config, day)
    columns = [*pipeline.contract.columns, "event_time"]
    headers = {"authorization": f"Bearer {token}"} if token else {}
    sent = 0
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        for part in rows.select(columns).iter_slices(ROWS_PER_REQUEST):
            _score(client, pipeline.pipeline, part)
            sent += part.height
            on_rows(sent)
    return sent


def _score(client: httpx.Client, pipeline: str, rows: pl.DataFrame) -> None:
    try:
        answer = client.post(f"/v1/{pipeline}/predict", content=_body(rows))
    except httpx.TransportError as error:
        raise _refused(client, f"no answer ({str(error) or type(error).__name__})") from error
    if answer.is_error:
        raise _refused(client, f"status {answer.status_code}: {answer.text[:200]}")


def _refused(client: httpx.Client, found: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"Serving at {client.base_url}",
        found=found,
        wanted="scores",
        remedy="See the log of the part `serving`, then run the demo again.",
    )


def scored(lake: Lake, pipeline: str, day: date) -> int:
    """Predictions of `day` that the log holds so far."""
    take_in(lake, "predictions", pipeline)
    found = lake.table("predictions", pipeline).day(day)
    return found.rows if found else 0


def _body(rows: pl.DataFrame) -> str:
    times = pl.col("event_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return f'{{"rows": {rows.with_columns(times).write_json()}}}'
