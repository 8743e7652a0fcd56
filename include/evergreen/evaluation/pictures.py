"""Pictures of an evaluation as one inline SVG; the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evergreen.artifacts import Estimate
from evergreen.evaluation.metrics import Floats, Ranking, equal_mass_bins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evergreen.evaluation.holdout import Holdout
    from evergreen.evaluation.learning import Learning

CANDIDATE_COLOUR = "#15803d"
CHAMPION_COLOUR = "#9aa5b1"
INK = "#334155"
MOST_POINTS = 400
CALIBRATION_BINS = 10
MOST_SLICES = 12
MOST_CHARACTERS = 24


def draw_curves(holdout: Holdout) -> str:
    """SVG: precision over recall, and observed share over mean score, of the candidate and the champion."""
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        precision_recall, calibration = figure.subplots(1, 2)
        lowest = 1.0
        for name, scores, colour in _models(holdout):
            recall, precision = precision_recall_points(holdout.labels, scores)
            precision_recall.plot(recall, precision, color=colour, label=name, linewidth=1.8, drawstyle="steps-pre")
            expected, observed = calibration_points(holdout.labels, scores)
            lowest = min([lowest, *expected, *observed])
            calibration.plot(expected, observed, color=colour, label=name, marker="o", markersize=4, linewidth=1.2)
        precision_recall.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        precision_recall.legend(frameon=False)
        calibration.plot([lowest, 1], [lowest, 1], color="#cbd5e1", linewidth=1, linestyle="--", zorder=0)
        calibration.set(xscale="log", yscale="log", xlabel="mean score", ylabel="share that is positive")
        return _svg(figure)


def draw_slices(slices: Mapping[str, Estimate]) -> str:
    """SVG: one dot with its 95 % interval a slice, the first twelve from above; a line marks zero if it is near."""
    from matplotlib.figure import Figure

    names = list(slices)[:MOST_SLICES]
    with _styled():
        figure = Figure(figsize=(9.2, 0.7 + 0.3 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        values = np.array([slices[name].value for name in names])
        reach = np.array([[e.value - e.low, e.high - e.value] for e in (slices[name] for name in names)]).T
        at = np.arange(len(names))[::-1]
        axes.errorbar(values, at, xerr=reach, fmt="o", color=CANDIDATE_COLOUR, markersize=4, capsize=2)
        axes.axvline(0, color="#cbd5e1", linewidth=1)
        axes.set_yticks(at, [_short(name) for name in names])
        return _svg(figure)


def draw_learning(learning: Learning) -> str:
    """SVG: loss of the rows drawn and average precision on the validation days, over epochs."""
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(9.2, 2.6), layout="constrained")
        loss, ranking = figure.subplots(1, 2)
        epochs = [point.epoch for point in learning.curve]
        loss.plot(epochs, [p.loss for p in learning.curve], color=CANDIDATE_COLOUR, linewidth=1.8)
        ranking.plot(epochs, [p.average_precision for p in learning.curve], color=CANDIDATE_COLOUR, linewidth=1.8)
        if learning.best_epoch is not None:
            ranking.axvline(learning.best_epoch, color="#cbd5e1", linewidth=1, linestyle="--")
        loss.set(xlabel="epoch", ylabel="training loss")
        ranking.set(xlabel="epoch", ylabel="validation average precision")
        return _svg(figure)


def draw_importance(importance: Mapping[str, float]) -> str:
    """SVG: one bar a feature, the twelve most important from above."""
    from matplotlib.figure import Figure

    names = list(importance)[:MOST_SLICES]
    with _styled():
        figure = Figure(figsize=(9.2, 0.7 + 0.26 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        at = np.arange(len(names))[::-1]
        axes.barh(at, [importance[name] for name in names], color=CANDIDATE_COLOUR, height=0.6)
        axes.axvline(0, color="#cbd5e1", linewidth=1)
        axes.set_yticks(at, [_short(name) for name in names])
        axes.set(xlabel="average precision lost when shuffled")
        return _svg(figure)


def precision_recall_points(labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Recall, rising, and precision at up to 400 thresholds; empty without positives."""
    found, flagged = Ranking.of(labels, scores).counts(np.ones(len(labels)))
    if not len(found) or found[-1] == 0:
        return np.zeros(0), np.zeros(0)
    kept = np.unique(np.linspace(0, len(found) - 1, min(MOST_POINTS, len(found))).astype(np.int64))
    return found[kept] / found[-1], found[kept] / flagged[kept]


def calibration_points(labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Mean score and observed share of positives in bins that each expect as many positives, where not zero.

    Bins of equally many rows would put nearly all positives of a rare label into one.
    """
    values = scores.astype(np.float64)
    bins = equal_mass_bins(values, values, CALIBRATION_BINS)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    seen = np.bincount(bins, labels.astype(np.float64), minlength=CALIBRATION_BINS)
    expected = np.bincount(bins, values, minlength=CALIBRATION_BINS)
    shown = (seen > 0) & (expected > 0)
    return expected[shown] / rows[shown], seen[shown] / rows[shown]


def _models(holdout: Holdout) -> Iterator[tuple[str, npt.NDArray[np.float32], str]]:
    if holdout.champion_scores is not None:
        yield "champion", holdout.champion_scores, CHAMPION_COLOUR
    yield "candidate", holdout.scores, CANDIDATE_COLOUR


def _short(name: str) -> str:
    cut = name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"
    return cut.replace("$", r"\$")


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(
        {
            "svg.hashsalt": "evergreen",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 8.5,
            "axes.edgecolor": "#cbd5e1",
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    ):
        yield


def _svg(figure: Figure) -> str:
    """The figure's <svg> element, without XML declaration, document type and metadata."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
