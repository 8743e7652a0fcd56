"""How members are weighed."""

from __future__ import annotations

import numpy as np
import pytest

from evergreen.training.blend import fit_blend
from evergreen.training.ranking import average_precision


def _members(size: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and two logits that each see another half of why a row is positive."""
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(2, size))
    labels = (rng.random(size) < 1 / (1 + np.exp(4 - 1.5 * one - 1.5 * two))).astype(np.float32)
    return labels, 1.5 * one - 2, 1.5 * two - 4


def test_a_blend_ranks_better_than_either_member_and_is_right_on_average() -> None:
    labels, one, two = _members()
    scores = fit_blend([one], two, labels).probability([one], two)
    assert average_precision(labels, scores) > max(average_precision(labels, x) for x in (one, two)) + 0.05
    assert scores.mean() == pytest.approx(labels.mean(), rel=1e-3)


def test_a_member_of_noise_gets_the_least_say() -> None:
    labels, one, two = _members()
    noise = np.random.default_rng(4).normal(size=one.size)
    blend = fit_blend([one + two], noise, labels)
    spread = abs(blend.trees) * noise.std(), blend.networks * (one + two).std()
    assert spread[0] < 0.1 * spread[1]


def test_networks_share_one_weight_and_alone_count_as_their_mean() -> None:
    labels, one, two = _members()
    blend = fit_blend([one, two], None, labels)
    assert (blend.networks, blend.trees) == (0.5, 0.0)
    assert blend.probability([one, two], None).mean() == pytest.approx(labels.mean(), rel=1e-2)
