"""Drift of two samples: sketches against the usual loop of pandas and SciPy, as ratios in one run.

    python -m benchmarks.drift --rows 1000000 --columns 30

Every approach runs in fresh processes, interleaved; the medians of CPU seconds are compared. Before any
time counts, the approaches must agree which columns drifted, and on how far those did.
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

import numpy as np
import polars as pl

from evergreen.monitoring.comparison import compare
from evergreen.monitoring.sketch import Sketch, sketch_frames
from evergreen.monitoring.sketch_file import read_sketch, write_sketch
from evergreen.pipeline import Monitoring

MONITORING = Monitoring()
SHIFTED_EVERY = 7
"""Every seventh column of the current sample really moved."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one approach found, and what that cost."""

    stability: dict[str, float]
    """Population stability of each column."""
    drifted: frozenset[str]
    cpu_seconds: float
    peak_bytes: int
    """Peak memory of the process, data included."""


def sample(rows: int, columns: int, *, shifted: bool) -> pl.DataFrame:
    """`columns` columns, a sixth of them categorical; a harmless 0.01 sd apart, some of them really moved."""
    rng = np.random.default_rng(2 if shifted else 1)
    made: dict[str, object] = {}
    for index in range(columns):
        moved = shifted and index % SHIFTED_EVERY == 0
        if index % 6 == 5:
            weights = 1 / np.arange(1, 41) if moved else np.ones(40)
            made[f"c{index}"] = rng.choice(np.array([f"v{v:02d}" for v in range(40)]), rows, p=weights / weights.sum())
        elif index % 2:
            made[f"i{index}"] = rng.poisson(4 if moved else 1.5, rows).astype(float)
        else:
            made[f"n{index}"] = np.exp(rng.normal(0.8 if moved else 0.01 * shifted, 1, rows))
    return pl.DataFrame(made)


def sketch(frame: pl.DataFrame) -> Sketch:
    """Our sketch of all columns."""
    numeric = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    return sketch_frames([frame], numeric=numeric, categorical=[name for name in frame.columns if name not in numeric])


def ours(reference: Sketch, current: Sketch) -> tuple[dict[str, float], frozenset[str]]:
    """Our verdict on two sketches."""
    found = compare(reference, current, MONITORING)
    stability = {column.column: column.population_stability for column in found.columns}
    return stability, frozenset(column.column for column in found.moved)


def from_scratch(
    reference: pl.DataFrame, current: pl.DataFrame
) -> Callable[[], tuple[dict[str, float], frozenset[str]]]:
    """Sketch both samples, compare."""
    return lambda: ours(sketch(reference), sketch(current))


def reference_kept(
    reference: pl.DataFrame, current: pl.DataFrame
) -> Callable[[], tuple[dict[str, float], frozenset[str]]]:
    """Read the reference's sketch, sketch the current sample, compare."""
    kept = write_sketch(sketch(reference))
    return lambda: ours(read_sketch(kept), sketch(current))


def both_kept(reference: pl.DataFrame, current: pl.DataFrame) -> Callable[[], tuple[dict[str, float], frozenset[str]]]:
    """Read both sketches, compare."""
    kept = [write_sketch(sketch(frame)) for frame in (reference, current)]
    return lambda: ours(read_sketch(kept[0]), read_sketch(kept[1]))


def pandas_and_scipy(
    reference: pl.DataFrame, current: pl.DataFrame
) -> Callable[[], tuple[dict[str, float], frozenset[str]]]:
    """Column by column: deciles, population stability, and a Kolmogorov-Smirnov or chi-squared test."""
    import pandas as pd
    from scipy import stats

    before, now = (pd.DataFrame(frame.to_dict(as_series=False)) for frame in (reference, current))

    def shares(column: str) -> tuple[np.ndarray, np.ndarray, float]:
        if pd.api.types.is_numeric_dtype(before[column]):
            edges = np.unique(before[column].quantile(np.linspace(0, 1, 11)).to_numpy())
            edges[0], edges[-1] = -np.inf, np.inf
            p, q = (np.histogram(frame[column], edges)[0] / len(frame) for frame in (before, now))
            return p, q, stats.ks_2samp(before[column], now[column], method="asymp").pvalue
        counts = pd.concat([frame[column].value_counts() for frame in (before, now)], axis=1).fillna(0).to_numpy().T
        p, q = counts / counts.sum(axis=1, keepdims=True)
        return p, q, stats.chi2_contingency(counts).pvalue

    def check() -> tuple[dict[str, float], frozenset[str]]:
        found = {column: shares(column) for column in before.columns}
        stability = {
            column: float(np.sum((q - p) * np.log(np.maximum(q, 1e-6) / np.maximum(p, 1e-6))))
            for column, (p, q, _) in found.items()
        }
        limit = MONITORING.false_discovery_rate / len(found)
        drifted = {c for c in found if stability[c] >= MONITORING.population_stability_floor and found[c][2] <= limit}
        return stability, frozenset(drifted)

    return check


APPROACHES = {
    "pandas and SciPy": pandas_and_scipy,
    "from scratch": from_scratch,
    "reference kept": reference_kept,
    "both kept": both_kept,
}


def measure(name: str, rows: int, columns: int) -> Run:
    """One approach, timed in this process without the making of its data."""
    prepared = APPROACHES[name](sample(rows, columns, shifted=False), sample(rows, columns, shifted=True))
    started = time.process_time()
    stability, drifted = prepared()
    return Run(
        stability=stability,
        drifted=drifted,
        cpu_seconds=time.process_time() - started,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def in_fresh_process(call: Callable[[], Run]) -> Run:
    """The result of `call` in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call).result()


def verify(runs: dict[str, Run]) -> None:
    """Nothing, when all approaches name the same columns and measure alike; AssertionError otherwise."""
    peer = runs["pandas and SciPy"]
    assert peer.drifted, "the peer found no drift, so there is nothing to agree on"
    for name, run in runs.items():
        assert run.drifted == peer.drifted, f"{name} disagrees on {run.drifted ^ peer.drifted}"
        continuous = [column for column in peer.drifted if column.startswith("n")]
        for column in continuous:  # of counts the peer lumps values that we keep apart
            found, wanted = run.stability[column], peer.stability[column]
            assert abs(found / wanted - 1) < 0.05, f"{name}: {column} has {found:.3f}, the peer {wanted:.3f}"


def main() -> None:
    """Print each approach's cost and how many times cheaper than the peer it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    runs: dict[str, list[Run]] = {name: [] for name in APPROACHES}
    for _ in range(given.repeats):
        for name in APPROACHES:
            runs[name].append(in_fresh_process(partial(measure, name, given.rows, given.columns)))
        verify({name: each[-1] for name, each in runs.items()})
    peer = median(run.cpu_seconds for run in runs["pandas and SciPy"])
    print(f"{given.rows:,} rows against {given.rows:,}, {given.columns} columns, {given.repeats} runs")
    for name, each in runs.items():
        cost, peak = median(run.cpu_seconds for run in each), max(run.peak_bytes for run in each)
        print(f"{name:17} {cost:8.3f} CPU s   {peer / cost:8.1f} times cheaper   peak {peak / 2**30:.2f} GiB in all")


if __name__ == "__main__":
    main()
