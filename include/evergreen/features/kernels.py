"""The compiled loops behind trailing windows: those an image was built with, or else compiled here at first use."""

from __future__ import annotations

try:
    from evergreen.features.shipped_kernels import number_groups, order_by_group, trailing_max, trailing_sums
except ModuleNotFoundError:
    from evergreen.features.loops import number_groups, order_by_group, trailing_max, trailing_sums

__all__ = ["number_groups", "order_by_group", "trailing_max", "trailing_sums"]
