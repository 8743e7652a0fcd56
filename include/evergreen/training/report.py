"""What a training run came to, in numbers: metrics.json."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from evergreen.training.calibration import Calibration
from evergreen.training.ranking import average_precision, brier, roc_auc
from evergreen.training.state import EpochResult, TrainingState


class Metrics(BaseModel):
    """Metrics of the calibrated scores on the validation part, and the curve that led there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    average_precision: float
    roc_auc: float
    brier: float
    mean_score: float
    rows: int
    positives: int
    epochs: int
    best_epoch: int
    calibration_slope: float
    calibration_intercept: float
    curve: tuple[EpochResult, ...]


def measure(
    state: TrainingState, calibration: Calibration, labels: npt.NDArray[np.float32], scores: npt.NDArray[np.float64]
) -> Metrics:
    """Metrics of `scores` [B] against `labels` [B]."""
    return Metrics(
        average_precision=average_precision(labels, scores),
        roc_auc=roc_auc(labels, scores),
        brier=brier(labels, scores),
        mean_score=float(scores.mean()),
        rows=labels.size,
        positives=int(labels.sum()),
        epochs=len(state.curve),
        best_epoch=state.best_epoch,
        calibration_slope=calibration.slope,
        calibration_intercept=calibration.intercept,
        curve=tuple(state.curve),
    )
