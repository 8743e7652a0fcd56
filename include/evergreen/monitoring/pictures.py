"""Pictures of two distributions as inline SVG; the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from evergreen.monitoring.binning import MISSING, OTHER, Bins, bins_of
from evergreen.monitoring.sketch import ColumnSketch, Integers, NumericSketch, lower_edges

REFERENCE_COLOUR = "#9aa5b1"
CURRENT_COLOUR = "#c2410c"
INK = "#334155"
MOST_CHARACTERS = 12


def bars(reference: ColumnSketch, current: ColumnSketch) -> str:
    """SVG: the share of rows in each bin the columns were judged by, reference beside current."""
    return _draw_bars(bins_of(reference, current))


def score_curves(reference: NumericSketch, current: NumericSketch) -> str:
    """SVG: the share of rows that score at least x, x and share on log scales, reference and current."""
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(7.6, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for sketch, colour, name in ((reference, REFERENCE_COLOUR, "holdout"), (current, CURRENT_COLOUR, "these days")):
            axes.plot(*_share_at_least(sketch), color=colour, label=name, linewidth=1.8)
        axes.set(xscale="log", yscale="log", xlabel="score", ylabel="share of rows scoring as much")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return _svg(figure)


def _draw_bars(bins: Bins) -> str:
    from matplotlib.figure import Figure

    with _styled():
        figure = Figure(figsize=(4.6, 2.4), layout="constrained")
        axes = figure.add_subplot()
        at = np.arange(len(bins.labels))
        axes.bar(at - 0.2, _percent(bins.reference), 0.4, color=REFERENCE_COLOUR)
        axes.bar(at + 0.2, _percent(bins.current), 0.4, color=CURRENT_COLOUR)
        axes.set_xticks(at, [_short(label) for label in bins.labels], rotation=45, ha="right", rotation_mode="anchor")
        axes.set_ylabel("% of rows")
        axes.spines[["top", "right"]].set_visible(False)
        return _svg(figure)


def _share_at_least(sketch: NumericSketch) -> tuple[list[float], list[float]]:
    """Scores ascending and the share of rows at or above each; zeros left out, as the axis is logarithmic."""
    held = sketch.cells > 0
    shares = np.cumsum(sketch.counts[::-1])[::-1] / max(sketch.rows, 1)
    return lower_edges(sketch.cells)[held].tolist(), shares[held].tolist()


def _percent(counts: Integers) -> list[float]:
    return list(100 * counts / max(counts.sum(), 1))


def _short(label: str) -> str:
    """The bin's first number or its value, without what matplotlib would take for mathematics."""
    first = label.split(" to ")[0] + ("…" if " to " in label else "") if label not in (MISSING, OTHER) else label
    cut = first if len(first) <= MOST_CHARACTERS else first[: MOST_CHARACTERS - 1] + "…"
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
            "xtick.color": INK,
            "ytick.color": INK,
        }
    ):
        yield


def _svg(figure: object) -> str:
    """The figure's <svg> element, without XML declaration, document type and metadata."""
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise TypeError("not a figure")
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
