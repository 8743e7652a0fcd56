from __future__ import annotations

from datetime import date

import pytest

from evergreen.errors import ConfigurationError
from evergreen.samples.config import SampleConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [({"seed": -1}, "seed: found -1"), ({"rows_per_day": 10}, "rows_per_day: found 10, wanted at least 200")],
    ids=["negative seed", "too few rows"],
)
def test_impossible_samples_are_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        SampleConfig(**options)


def test_a_shift_includes_its_first_day() -> None:
    config = SampleConfig(shift_from=date(2026, 10, 5))
    assert [config.shifted_on(date(2026, 10, day)) for day in (4, 5, 6)] == [False, True, True]
    assert not SampleConfig().shifted_on(date(2026, 10, 5))
