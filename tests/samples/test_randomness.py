from __future__ import annotations

from datetime import date

import numpy as np

from evergreen.samples.randomness import draw, generator, pick, place_within, splitmix64, stable_uniform, whole


def test_splitmix64_gives_the_published_first_output_of_state_zero() -> None:
    assert splitmix64(np.zeros(1, np.uint64))[0] == 0xE220A8397B1DCDAF


def test_a_generator_depends_on_seed_purpose_and_day_only() -> None:
    day = date(2026, 10, 5)
    assert generator(7, "traffic", day).random() == generator(7, "traffic", day).random()
    others = [generator(8, "traffic", day), generator(7, "fraud", day), generator(7, "traffic", date(2026, 10, 6))]
    assert len({generator(7, "traffic", day).random(), *(other.random() for other in others)}) == 4


def test_stable_draws_are_uniform_and_belong_to_their_keys() -> None:
    customers = np.arange(20_000)
    today = stable_uniform(7, "travels", customers, 5)
    assert np.array_equal(today, stable_uniform(7, "travels", customers, 5))
    assert np.histogram(today, bins=10, range=(0, 1))[0].min() > 1_800
    assert abs(np.corrcoef(today, stable_uniform(7, "travels", customers, 6))[0, 1]) < 0.03


def test_weightless_positions_are_never_drawn() -> None:
    cumulative = np.cumsum([0.0, 2.0, 0.0, 1.0, 0.0])
    drawn = draw(np.random.default_rng(1), cumulative, 3_000)
    assert set(drawn.tolist()) == {1, 3}
    assert 0.6 < (drawn == 1).mean() < 0.73
    assert pick(cumulative, np.array([0.0, 1.9, 2.0])).tolist() == [1, 1, 3]


def test_a_draw_within_a_group_stays_in_the_group() -> None:
    cumulative, starts = np.cumsum([1.0, 1.0, 5.0, 1.0]), np.array([0, 2, 4])
    assert place_within(cumulative, starts, np.array([0, 0, 1, 1]), np.array([0.0, 0.99, 0.0, 0.99])).tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_a_fraction_is_settled_on_average() -> None:
    rng = np.random.default_rng(1)
    assert 2.2 < np.mean([whole(rng, 2.3) for _ in range(2_000)]) < 2.4
