"""The images that run on the real cluster."""

from __future__ import annotations

from images import serving_image, trainer_image  # noqa: F401
