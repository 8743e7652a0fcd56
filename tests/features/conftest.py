"""The shop's clean days, which every test here computes features of."""

from shop import shop, write_clean, write_labels  # noqa: F401 - fixtures
