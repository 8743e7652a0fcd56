"""Categories by index and by target, against hand-worked numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from evergreen.training.category_encoder import Vocabulary, fit_target_encoding


def test_index_zero_is_whatever_training_did_not_see() -> None:
    vocabulary = Vocabulary(column="c", levels=("", "a", "b"), log_odds=(0.1, -0.2, 0.3))
    assert vocabulary.encode(pl.Series("c", ["b", "", "new", "a"])).tolist() == [3, 1, 0, 2]
    assert vocabulary.risks.tolist() == pytest.approx([0.0, 0.1, -0.2, 0.3])


def test_target_encoding_by_hand() -> None:
    labels = np.array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0], np.float32)
    values = pl.Series("c", list("aabbbaabbb"))
    encoding, _ = fit_target_encoding(values, labels)
    of_a = (2 + 1) / (4 + 1 / 0.2)  # two positives of four rows, and one prior positive in 1 / 0.2 rows
    assert encoding.log_odds[0] == pytest.approx(np.log(of_a / (1 - of_a)) - np.log(0.2 / 0.8), rel=1e-5)
    assert encoding.encode(pl.Series("c", ["zzz"])).tolist() == [0.0]


def test_a_row_is_encoded_without_its_own_fold() -> None:
    labels = np.array([1, 0, 0, 0], np.float32)
    _, own = fit_target_encoding(pl.Series("c", list("abab")), labels, folds=2)
    assert own[0] < 0  # the only positive of `a` is its own
    assert own[2] > 0  # the other fold's `a` was positive
    assert own[1] == own[3]


def test_rare_levels_stay_near_the_prior() -> None:
    labels = np.zeros(1000, np.float32)
    labels[:10] = 1
    levels = ["rare"] + ["common"] * 999
    encoding, _ = fit_target_encoding(pl.Series("c", levels), labels)
    by_level = dict(zip(encoding.levels, encoding.log_odds, strict=True))
    assert 0.5 < by_level["rare"] < 1.0  # one of one, yet far from certain
    assert -0.1 < by_level["common"] < 0
