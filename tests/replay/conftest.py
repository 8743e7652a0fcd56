"""The shop's clean days, which a model is learned from and learned from again."""

from shop import shop, write_clean, write_labels  # noqa: F401 - fixtures
