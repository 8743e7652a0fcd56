"""Trailing windows per card and merchant: Evergreen against pandas and Polars, as ratios in one run.

    python -m benchmarks.features --rows 1000000

Every approach runs in fresh processes, interleaved; the medians of CPU and wall seconds are compared. Before any
time counts, all windows of all rows must agree with pandas': counts and largest values exactly, means to 1e-9.
No row is late or replaced here, since the peers have no notion of it; ours looks for such rows all the same.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import TypeVar

import numpy as np
import polars as pl

WINDOWS = (
    ("card_count_1h", "card_id", "1h", "count"),
    ("card_sum_24h", "card_id", "24h", "sum"),
    ("card_mean_7d", "card_id", "7d", "mean"),
    ("card_max_7d", "card_id", "7d", "max"),
    ("merchant_count_24h", "merchant_id", "24h", "count"),
    ("merchant_mean_7d", "merchant_id", "7d", "mean"),
)
"""Name, key, span and aggregate over amount_cents."""
Result = TypeVar("Result")
Approach = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one approach found, and what that cost."""

    sums: dict[str, float]
    """Sum of each window's values: a cheap check of every timed run."""
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Peak memory of the process, data included."""


def transactions(rows: int) -> pl.DataFrame:
    """`rows` transactions of 30 days in order of time, no two at one instant; known as they happened."""
    rng = np.random.default_rng(7)
    step = 30 * 86_400_000_000 // rows
    instants = 1_790_000_000_000_000 + np.arange(rows) * step + rng.integers(0, max(step, 1), rows)
    frame = pl.DataFrame(
        {
            "card_id": "card-" + pl.Series(rng.zipf(1.3, rows) % max(rows // 60, 1)).cast(pl.String),
            "merchant_id": "merchant-" + pl.Series(rng.integers(0, max(rows // 500, 1), rows)).cast(pl.String),
            "amount_cents": rng.integers(1, 500_000, rows),
            "event_time": pl.Series(instants).cast(pl.Datetime("us", "UTC")),
        }
    )
    return frame.with_columns(known_at="event_time", superseded_at=pl.lit(None, pl.Datetime("us", "UTC")))


def evergreen(frame: pl.DataFrame) -> pl.DataFrame:
    """This project's windows."""
    from evergreen.features.windows import compute_windows
    from evergreen.pipeline import Window

    windows = {
        name: Window.model_validate(
            {"by": (by,), "over": over, "aggregate": how, "of": None if how == "count" else "amount_cents"}
        )
        for name, by, over, how in WINDOWS
    }
    return compute_windows(frame, frame, windows)


def polars(frame: pl.DataFrame) -> pl.DataFrame:
    """Polars' rolling expressions over groups."""
    amount = pl.col("amount_cents")
    columns = {}
    for name, by, over, how in WINDOWS:
        aggregated = amount.len() if how == "count" else getattr(amount, how)()
        columns[name] = aggregated.rolling("event_time", period=over, closed="left").over(by)
    return frame.lazy().select(**columns).collect()


def pandas(frame: pl.DataFrame) -> pl.DataFrame:
    """Pandas' groupby.rolling."""
    import pandas as pd

    table = pd.DataFrame({name: frame[name].to_numpy() for name in ("amount_cents", "event_time")})
    columns = {}
    for name, by, over, how in WINDOWS:
        table[by] = pd.Categorical.from_codes(*_categories(frame[by]))
        grouped = table.groupby(by, observed=True).rolling(over.replace("d", "D"), on="event_time", closed="left")[
            "amount_cents"
        ]
        # The last level of the result's index is the row it belongs to.
        values = getattr(grouped, how)().droplevel(0).sort_index().to_numpy()
        columns[name] = np.nan_to_num(values) if how in ("count", "sum") else values
    return pl.DataFrame(columns).fill_nan(None)


def _categories(keys: pl.Series) -> tuple[np.ndarray, list[str]]:
    names = keys.unique(maintain_order=True)
    codes = keys.replace_strict(names, pl.Series(range(len(names))), return_dtype=pl.Int64)
    return codes.to_numpy(), names.to_list()


APPROACHES: dict[str, Approach] = {"evergreen": evergreen, "polars": polars, "pandas": pandas}


def require_agreement(rows: int) -> None:
    """Nothing, when the approaches agree on every window of every row; AssertionError otherwise."""
    frame = transactions(rows)
    wanted = pandas(frame)
    for name in ("evergreen", "polars"):
        found = APPROACHES[name](frame)
        for window, _, _, how in WINDOWS:
            ours, theirs = found[window].cast(pl.Float64), wanted[window].cast(pl.Float64)
            if how in ("count", "sum"):
                ours, theirs = ours.fill_null(0), theirs.fill_null(0)
            assert (ours.is_null() == theirs.is_null()).all(), f"{name} and pandas see different rows in {window}"
            limit = 0.0 if how in ("count", "max") else 1e-9
            gap = ((ours - theirs).abs() / theirs.abs().clip(1)).max()
            assert gap is not None, f"{window} is empty"
            assert gap <= limit, f"{name} and pandas differ by {gap} in {window}"


def measured(name: str, rows: int) -> Run:
    """One run of an approach, imports and compiled code warm, in the process that calls this."""
    approach, frame = APPROACHES[name], transactions(rows)
    approach(transactions(100))
    cpu, wall = time.process_time(), time.perf_counter()
    found = approach(frame)
    return Run(
        sums={column: float(found[column].sum()) for column in found.columns},
        cpu_seconds=time.process_time() - cpu,
        wall_seconds=time.perf_counter() - wall,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def in_fresh_process(call: Callable[[], Result]) -> Result:
    """The result of `call` in a process of its own; this one stays small, since children inherit its peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call).result()


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", choices=("pandas", "polars"), nargs="*", default=[], help="peers to leave out")
    options = parser.parse_args()
    in_fresh_process(partial(require_agreement, min(options.rows, 100_000)))
    names = [name for name in APPROACHES if name not in options.without]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            runs[name].append(in_fresh_process(partial(measured, name, options.rows)))
    for name in names:
        for window, value in runs[name][0].sums.items():
            assert np.isclose(value, runs["evergreen"][0].sums[window], rtol=1e-9), f"{name} differs in {window}"
    print(f"{options.rows} rows, {len(WINDOWS)} windows, medians of {options.repeats}")
    floor = median(run.cpu_seconds for run in runs["evergreen"])
    for name, done in runs.items():
        cpu, wall = median(r.cpu_seconds for r in done), median(r.wall_seconds for r in done)
        peak = max(r.peak_bytes for r in done) / 2**20
        print(
            f"{name:10} {cpu:8.2f} CPU s {wall:8.2f} s wall {peak:8.0f} MiB  {cpu / floor:6.1f}x the CPU of evergreen"
        )


if __name__ == "__main__":
    main()
