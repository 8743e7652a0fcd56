"""The pod's device as TensorFlow sees it, and TensorFlow's memory errors in Evergreen's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from evergreen.errors import ConfigurationError, OutOfMemory

KINDS = {"cuda": "GPU", "xla": "TPU"}
"""Kind of device that a profile asks for -> TensorFlow's name of it."""


def require_device(expected: str | None) -> None:
    """Nothing when TensorFlow sees the kind of device that the pod's profile asked for, else ConfigurationError."""
    if expected and not tf.config.list_physical_devices(KINDS[expected]):
        raise ConfigurationError(
            f"Device of the pod's resource profile ({expected})",
            found=f"no {expected} device that TensorFlow sees, only cpu",
            wanted=f"a visible {expected} device, as the profile's limits say",
            remedy="Choose a profile without one, or an image whose TensorFlow is built for it: evergreen-keras has "
            "the one for CPUs alone.",
        )


def device_kind() -> str:
    """What TensorFlow computes on: the first of KINDS that it sees, else the CPU."""
    return next((kind for kind, name in KINDS.items() if tf.config.list_physical_devices(name)), "cpu")


@contextmanager
def memory_errors(*, rows: int) -> Iterator[None]:
    """Inside, running out of memory on the device or the host raises OutOfMemory."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        message = str(error)
        raise OutOfMemory(
            "Memory for training",
            found=_refused_allocation(message),
            wanted=f"room for {rows} rows at once",
            remedy=f"Try again with {max(1, rows // 2)} rows at once, or a larger profile.",
            details=message,
        ) from error


def _refused_allocation(message: str) -> str:
    """The line that tells what was too large; an error out of a compiled step tells first where it was raised."""
    lines = message.splitlines()
    return next((line for line in lines if "OOM" in line), lines[0] if lines else "an allocation refused")
