"""What a sample world depends on: nothing but these three values and the day asked for."""

from dataclasses import dataclass
from datetime import date

from evergreen.errors import ConfigurationError
from evergreen.samples.catalogue import MIN_ROWS_PER_DAY


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """One reproducible sample source; equal configs give equal rows on every machine.

    Raises ConfigurationError for a negative seed or fewer than `MIN_ROWS_PER_DAY` rows a day.
    """

    seed: int = 7
    """Picks the world: its customers, cards, merchants and every day's draws."""

    rows_per_day: int = 20_000
    """Transactions on an average day; weekdays sway it by a few per cent. Cards and merchants grow with it."""

    shift_from: date | None = None
    """The first day of changed behaviour and changed fraud; None for never. Earlier days do not depend on it."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigurationError(
                "the sample's seed", found=str(self.seed), wanted="zero or more", remedy="Pass a non-negative integer."
            )
        if self.rows_per_day < MIN_ROWS_PER_DAY:
            raise ConfigurationError(
                "the sample's rows_per_day",
                found=str(self.rows_per_day),
                wanted=f"at least {MIN_ROWS_PER_DAY}",
                remedy="Ask for more rows: fewer hold no fraud worth learning.",
            )

    def shifted_on(self, day: date) -> bool:
        """Whether behaviour has changed by this day."""
        return self.shift_from is not None and day >= self.shift_from
