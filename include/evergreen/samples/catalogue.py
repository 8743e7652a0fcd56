"""The figures behind the sample world: merchant categories, countries and daily rhythm.

They are plausible, not measured: shares and medians are of the size public card statistics report.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from evergreen.samples.randomness import Floats

MIN_ROWS_PER_DAY: Final = 200

CHANNELS: Final = ("chip", "contactless", "online", "atm")
CHIP, CONTACTLESS, ONLINE, ATM = range(4)


@dataclass(frozen=True)
class Category:
    """A merchant category: its ISO 18245 code and how people buy there."""

    mcc: str
    visit_share: float
    """Relative popularity among all categories."""
    median_cents: int
    online_share: float
    """Part of its purchases made online in ordinary times."""


CATEGORIES: Final = (
    Category("5411", 0.20, 2800, 0.04),  # groceries
    Category("5812", 0.12, 2400, 0.02),  # restaurants
    Category("5814", 0.11, 1100, 0.10),  # fast food
    Category("5541", 0.07, 4800, 0.00),  # fuel
    Category("5912", 0.05, 1700, 0.06),  # pharmacies
    Category("5311", 0.05, 4500, 0.25),  # department stores
    Category("5651", 0.06, 5200, 0.35),  # clothing
    Category("5732", 0.03, 9500, 0.50),  # electronics
    Category("5942", 0.03, 1900, 0.55),  # books
    Category("5999", 0.05, 3200, 0.45),  # other retail
    Category("4111", 0.06, 700, 0.20),  # local transport
    Category("4121", 0.03, 1500, 0.50),  # taxis
    Category("4511", 0.01, 19000, 0.90),  # airlines
    Category("7011", 0.015, 12000, 0.60),  # hotels
    Category("5816", 0.03, 1300, 1.00),  # digital games
    Category("5817", 0.03, 900, 1.00),  # apps
    Category("4899", 0.03, 1500, 0.95),  # streaming
    Category("5944", 0.006, 14000, 0.20),  # jewellery
    Category("6011", 0.03, 8000, 0.00),  # cash machines
    Category("8011", 0.012, 6000, 0.10),  # doctors
    Category("5200", 0.03, 5500, 0.15),  # home improvement
)
"""Categories of everyday life, before and after a shift."""

NEW_CATEGORIES: Final = (
    Category("6051", 0.30, 7500, 1.00),  # quasi-cash
    Category("5967", 0.30, 2200, 0.90),  # subscriptions
    Category("5734", 0.40, 4200, 0.80),  # software
)
"""Categories nobody uses before a shift."""

CASH_MACHINES: Final = "6011"
CASH_OUT_MCCS: Final = ("5732", "5816", "5999", "5651")
"""Goods that are easy to sell on: where stolen card numbers are spent before a shift."""


@dataclass(frozen=True)
class Country:
    """A country people live, shop and travel in. Amounts are minor units of its currency, not converted."""

    code: str
    share: float
    currency: str


COUNTRIES: Final = (
    Country("DE", 0.26, "EUR"),
    Country("FR", 0.18, "EUR"),
    Country("GB", 0.14, "GBP"),
    Country("ES", 0.09, "EUR"),
    Country("IT", 0.08, "EUR"),
    Country("NL", 0.07, "EUR"),
    Country("AT", 0.04, "EUR"),
    Country("BE", 0.04, "EUR"),
    Country("CH", 0.03, "CHF"),
    Country("US", 0.03, "USD"),
    Country("IE", 0.02, "EUR"),
    Country("PT", 0.02, "EUR"),
)

WEEKDAY_VOLUME: Final = (0.99, 0.98, 1.0, 1.01, 1.03, 1.02, 0.97)
"""Relative volume from Monday to Sunday; mild, so that no ordinary weekday looks like drift."""

HOURLY_VOLUME: Final[Floats] = np.array(
    [6, 4, 3, 2, 2, 4, 12, 28, 44, 52, 56, 64, 74, 66, 58, 58, 64, 76, 82, 74, 58, 42, 26, 14], dtype=np.float64
)
"""Relative volume of each UTC hour."""
