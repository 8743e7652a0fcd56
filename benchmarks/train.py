"""Training: how good our models are, and how fast the arithmetic runs.

python -m benchmarks.train --quality                      against tuned LightGBM and XGBoost, on three sources
python -m benchmarks.train --quality --json               the same on one source (--dataset, fraud), as JSON
python -m benchmarks.train --dtype f32,bf16               as shares of the matrix products' own rate
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from benchmarks.labelled import SOURCES
from benchmarks.quality import DEFAULT, NETWORK, PEERS, Judged, judge


def main() -> None:
    """Run what the arguments ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", action="store_true", help="average precision against boosted trees")
    parser.add_argument("--dataset", choices=[*SOURCES, "all"], help="default: all in the table, fraud as JSON")
    parser.add_argument("--seeds", default="7,8,9", help="of the rows and of the models")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, each on one thread")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dtype", help="f32, bf16 or both, with a comma between")
    options = parser.parse_args()
    if options.dtype:
        from benchmarks.training_speed import print_speed

        print_speed(tuple(options.dtype.split(",")), as_json=options.json)
    if options.quality:
        _quality(options)
    if not options.dtype and not options.quality:
        parser.error("nothing to do: --quality or --dtype")


def _quality(options: argparse.Namespace) -> None:
    seeds = tuple(int(seed) for seed in options.seeds.split(","))
    if options.json:
        with contextlib.redirect_stdout(sys.stderr):
            judged = judge(options.dataset or "fraud", seeds, jobs=options.jobs, families=(DEFAULT,))
        print(json.dumps(judged.summary()))
        return
    chosen = list(SOURCES) if options.dataset in (None, "all") else [options.dataset]
    for source in chosen:
        print_judged(source, judge(source, seeds, jobs=options.jobs, families=(DEFAULT, NETWORK)))


def print_judged(source: str, judged: Judged) -> None:
    """A table of the means over the seeds, then each seed's differences."""
    print(f"\n{source}, mean of seeds {judged.seeds}; difference to {judged.best_peer}, the better peer")
    print("approach      AP [95 % interval]      difference              CPU s  score/rate    ECE")
    for approach in (DEFAULT, NETWORK, *PEERS):
        if approach in judged.precision:
            print(f"{approach:9} {_row(judged, approach)}")
    if "oracle" in judged.precision:
        print(f"oracle    {_bracketed(judged.level('oracle'))}")
    for family in (DEFAULT, NETWORK):
        if family in judged.precision:
            found = ", ".join(f"{s}: {_bracketed(judged.difference(family, s), signed=True)}" for s in judged.seeds)
            print(f"{family} by seed  {found}", flush=True)


def _row(judged: Judged, approach: str) -> str:
    ratio, error = judged.calibration[approach]
    return (
        f"{_bracketed(judged.level(approach))}  {_bracketed(judged.difference(approach), signed=True)}"
        f"  {judged.cpu_seconds[approach]:5.1f}  {ratio:10.2f}  {error:.5f}"
    )


def _bracketed(estimate: dict[str, float], *, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    return f"{estimate['ap']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"


if __name__ == "__main__":
    main()
