"""Ranking metrics against hand-worked numbers, ties included."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.training.ranking import average_precision, brier, roc_auc


def test_average_precision_by_hand() -> None:
    labels, scores = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(labels, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_tied_scores_are_one_threshold_whatever_their_order() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.1])
    for labels in ([1, 0, 0, 0], [0, 0, 1, 0]):
        assert average_precision(np.array(labels), scores) == pytest.approx(1 / 3)


def test_roc_auc_counts_a_tie_half() -> None:
    assert roc_auc(np.array([1, 0, 1, 0.0]), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(3 / 4)
    assert roc_auc(np.array([1, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_brier_by_hand() -> None:
    assert brier(np.array([1, 0.0]), np.array([0.8, 0.4])) == pytest.approx((0.04 + 0.16) / 2)
