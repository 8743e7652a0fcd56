"""The network: standardised numbers and embedded categories through a multi-layer perceptron to one logit.

B rows, F numbers (NaN: missing), E categories as indices from 0 (unknown).
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

FURTHEST = 5.0
"""Standard deviations beyond which a number counts as this far: amounts have long tails."""
EMBEDDED = 8


def build_network(
    numbers: npt.NDArray[np.float32], levels: tuple[int, ...], *, hidden: tuple[int, ...], dropout: float, rate: float
) -> keras.Model:
    """The network before it learns, standardised by `numbers` [B, F]; `levels` [E] are sizes of the vocabularies.

    Its bias starts at the log-odds of `rate`, the share of positives.
    """
    given = keras.Input((numbers.shape[1],), name="numbers")
    indices = keras.Input((len(levels),), dtype="int32", name="categories")
    parts = [_standardised(given, numbers), keras.ops.cast(keras.ops.isnan(given), "float32")]
    for position, size in enumerate(levels):
        embedded = keras.layers.Embedding(size + 1, EMBEDDED)(indices[:, position : position + 1])
        parts.append(keras.layers.Flatten()(embedded))
    x = keras.layers.Concatenate()(parts)
    for units in hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    bias = keras.initializers.Constant(float(np.log(rate / (1 - rate))))
    return keras.Model([given, indices], keras.layers.Dense(1, bias_initializer=bias, name="logit")(x))


def with_probability(network: keras.Model, slope: float, intercept: float) -> keras.Model:
    """`network` with a calibrated probability [B] as its output."""
    probability = keras.ops.sigmoid(network.output * slope + intercept)
    return keras.Model(network.inputs, keras.ops.reshape(probability, (-1,)))


def _standardised(given: keras.KerasTensor, numbers: npt.NDArray[np.float32]) -> keras.KerasTensor:
    finite = np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float64)
    known = np.where(np.isnan(finite).all(axis=0), 0.0, finite)
    median, spread = np.nanmedian(known, axis=0), np.nanstd(known, axis=0)
    filled = keras.ops.where(keras.ops.isnan(given), median.astype(np.float32), given)
    scaled = (filled - median.astype(np.float32)) / np.maximum(spread, 1e-6).astype(np.float32)
    return keras.ops.clip(scaled, -FURTHEST, FURTHEST)
