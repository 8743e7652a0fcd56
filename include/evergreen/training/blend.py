"""Several models as one: the weight of each member's logit, and the calibration of their sum.

B rows, M networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evergreen.training.calibration import Calibration, Logits, fit_calibration

SHARES = np.linspace(0.1, 0.9, 9)
"""Of the trees: each member keeps a say, since the validation days that choose have few positives."""


@dataclass(frozen=True, kw_only=True)
class Blend:
    """probability = calibration of the weighted sum of the members' logits."""

    networks: float
    """Weight of the logit of each network."""
    trees: float
    calibration: Calibration

    def probability(self, networks: Sequence[Logits], trees: Logits | None) -> Logits:
        """float64 [B] in (0, 1)."""
        return self.calibration.probability(_sum(networks, trees, self.networks, self.trees))


def fit_blend(networks: Sequence[Logits], trees: Logits | None, labels: npt.NDArray[np.float32]) -> Blend:
    """The blend under which `labels` [B] are most likely; networks share one weight.

    The logits are those of validation rows. Both sides are calibrated before they are weighed.
    """
    if trees is None or not networks:
        one = 1 / len(networks) if networks else 0.0
        weights = (one, 0.0 if trees is None else 1.0)
        return _calibrated(networks, trees, *weights, labels)
    average = np.mean(networks, axis=0)
    slopes = fit_calibration(average, labels).slope, fit_calibration(trees, labels).slope
    blends = [
        _calibrated(networks, trees, (1 - share) * slopes[0] / len(networks), share * slopes[1], labels)
        for share in SHARES.tolist()
    ]
    return min(blends, key=lambda blend: _surprise(blend.probability(networks, trees), labels))


def _calibrated(
    networks: Sequence[Logits], trees: Logits | None, each: float, other: float, labels: npt.NDArray[np.float32]
) -> Blend:
    calibration = fit_calibration(_sum(networks, trees, each, other), labels)
    return Blend(networks=each, trees=other, calibration=calibration)


def _sum(networks: Sequence[Logits], trees: Logits | None, each: float, other: float) -> Logits:
    parts = [each * logits for logits in networks] + ([] if trees is None else [other * trees])
    return np.sum(parts, axis=0, dtype=np.float64)  # type: ignore[no-any-return]


def _surprise(chance: Logits, labels: npt.NDArray[np.float32]) -> float:
    """Mean cross-entropy in nats."""
    return -float(np.mean(np.log(np.maximum(np.where(labels == 1, chance, 1 - chance), 1e-12))))
