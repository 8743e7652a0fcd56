"""What a training run came to, in numbers: metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from evergreen.training.calibration import Calibration, Logits
from evergreen.training.ranking import average_precision, brier, roc_auc
from evergreen.training.state import EpochResult
from evergreen.training.stretch import Stretch


class Member(BaseModel):
    """One network, or the trees, of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["network", "trees"]
    weight: float
    """Of its logit in the blend."""
    average_precision: float
    """On the validation part."""
    steps: int
    """Epochs trained, or trees grown."""
    best: int
    """The best epoch, or the number of trees kept."""
    curve: tuple[EpochResult, ...]
    """By epoch; empty for trees."""
    stretches: tuple[Stretch, ...]
    """By step; empty for trees."""

    @classmethod
    def of(
        cls,
        kind: Literal["network", "trees"],
        logits: Logits,
        labels: npt.NDArray[np.float32],
        *,
        weight: float,
        steps: int,
        best: int,
        curve: tuple[EpochResult, ...] = (),
        stretches: tuple[Stretch, ...] = (),
    ) -> Member:
        """The member that gave `logits` [B] for the validation rows."""
        return cls(
            kind=kind,
            weight=weight,
            average_precision=average_precision(labels, logits),
            steps=steps,
            best=best,
            curve=curve,
            stretches=stretches,
        )


class Metrics(BaseModel):
    """Metrics of the calibrated scores on the validation part, and how the members got there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    average_precision: float
    roc_auc: float
    brier: float
    mean_score: float
    rows: int
    positives: int
    epochs: int
    """Of the first member, as are the best and the curve; trees, where there is no network."""
    best_epoch: int
    calibration_slope: float
    calibration_intercept: float
    curve: tuple[EpochResult, ...]
    members: tuple[Member, ...]


def measure(
    members: Sequence[Member],
    calibration: Calibration,
    labels: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float64],
) -> Metrics:
    """Metrics of `scores` [B] against `labels` [B]."""
    first = members[0]
    return Metrics(
        average_precision=average_precision(labels, scores),
        roc_auc=roc_auc(labels, scores),
        brier=brier(labels, scores),
        mean_score=float(scores.mean()),
        rows=labels.size,
        positives=int(labels.sum()),
        epochs=first.steps,
        best_epoch=first.best,
        calibration_slope=calibration.slope,
        calibration_intercept=calibration.intercept,
        curve=first.curve,
        members=tuple(members),
    )
