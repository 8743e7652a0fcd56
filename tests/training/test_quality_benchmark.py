"""What the benchmark of quality says of its numbers, and that its peers are the better ones wherever they are named."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.quality import Judged

from evergreen.evaluation.bootstrap import Sampled

MADE = {"blend": (0.50, 0.60), "lightgbm": (0.46, 0.50), "xgboost": (0.40, 0.58)}
"""Approach -> average precision under the seeds 7 and 8."""


@pytest.fixture
def judged() -> Judged:
    """Both seeds; every resample is as far from its value as those of the other approaches: pairs differ by nothing."""
    apart = np.linspace(-0.01, 0.01, 400)
    return Judged(
        seeds=(7, 8),
        precision={name: [Sampled(value, value + apart) for value in values] for name, values in MADE.items()},
        cpu_seconds={"blend": 10.0, "lightgbm": 11.0, "xgboost": 12.0},
        calibration=dict.fromkeys(MADE, (1.0, 0.001)),
    )


def test_each_seed_is_compared_with_the_peer_that_is_better_there(judged: Judged) -> None:
    assert judged.best_peer == "xgboost"
    assert judged.difference("blend")["ap"] == pytest.approx(0.55 - 0.49)
    assert judged.difference("blend", 7)["ap"] == pytest.approx(0.50 - 0.46)
    assert judged.difference("blend", 8)["ap"] == pytest.approx(0.60 - 0.58)


def test_differences_are_paired(judged: Judged) -> None:
    difference, level = judged.difference("blend"), judged.level("blend")
    assert difference["high"] - difference["low"] == pytest.approx(0, abs=1e-9)
    assert level["high"] - level["low"] > 0.01


def test_summary_names_ours_the_peers_the_oracle_and_the_difference(judged: Judged) -> None:
    summary = judged.summary()
    assert set(summary) == {"ours", "lightgbm", "xgboost", "oracle", "difference"}
    assert summary["ours"]["cpu_seconds"] == 10.0
    assert set(summary["lightgbm"]) == {"ap", "low", "high", "cpu_seconds"}
    assert set(summary["difference"]) == {"ap", "low", "high"}
    assert set(summary["oracle"].values()) == {None}
