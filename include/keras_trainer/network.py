"""The network: standardised numbers and embedded categories through a multi-layer perceptron to one logit.

B rows, F numbers (NaN: missing), E categories as indices from 0 (unknown).
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

from evergreen.training.numeric_encoder import NumericEncoder

FURTHEST = 5.0
"""Standard deviations beyond which a number counts as this far: amounts have long tails."""
EMBEDDED = 8


def build_network(
    numbers: npt.NDArray[np.float32],
    encoder: NumericEncoder,
    levels: tuple[int, ...],
    *,
    hidden: tuple[int, ...],
    dropout: float,
    rate: float,
) -> keras.Model:
    """The network before it learns, standardised by `numbers` [B, F]; `levels` [E] are sizes of the vocabularies.

    Its inputs are `numbers` and `categories`, one of width 0 left out. Its bias starts at the log-odds of `rate`, the
    share of positives. What training does not show it counts for nothing later: columns that are constant, and levels
    that are unknown, are zeros, and only columns that `encoder`, fitted to `numbers`, flags have a flag.
    """
    inputs, parts = [], []
    if numbers.shape[1]:
        inputs.append(given := keras.Input((numbers.shape[1],), name="numbers"))
        parts += [_standardised(given, numbers, encoder.constant), *_flags(given, encoder.flagged)]
    if levels:
        inputs.append(indices := keras.Input((len(levels),), dtype="int32", name="categories"))
        parts += _embedded(indices, levels)
    x = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    for units in hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
        x = keras.layers.Dropout(dropout)(x)
    bias = keras.initializers.Constant(float(np.log(rate / (1 - rate))))
    return keras.Model(inputs, keras.layers.Dense(1, bias_initializer=bias, name="logit")(x))


def with_probability(network: keras.Model, slope: float, intercept: float) -> keras.Model:
    """`network` with a calibrated probability [B] as its output."""
    probability = keras.ops.sigmoid(network.output * slope + intercept)
    return keras.Model(network.inputs, keras.ops.reshape(probability, (-1,)))


def _embedded(indices: keras.KerasTensor, levels: tuple[int, ...]) -> list[keras.KerasTensor]:
    """An embedding [B, EMBEDDED] of each category."""
    tables = [keras.layers.Embedding(size + 1, EMBEDDED, _unknown_at_zero) for size in levels]
    return [keras.layers.Flatten()(table(indices[:, at : at + 1])) for at, table in enumerate(tables)]


def _unknown_at_zero(shape: tuple[int, int], dtype: str | None = None) -> keras.KerasTensor:
    """An embedding's first weights; those of row 0 stay zero, for training never looks them up."""
    known = keras.initializers.RandomUniform()((shape[0] - 1, shape[1]), dtype)
    return keras.ops.pad(known, ((1, 0), (0, 0)))


def _flags(given: keras.KerasTensor, flagged: tuple[int, ...]) -> list[keras.KerasTensor]:
    """[B, K]: which of the flagged columns are missing, where there are any."""
    if not flagged:
        return []
    return [keras.ops.take(keras.ops.cast(keras.ops.isnan(given), "float32"), flagged, axis=1)]


def _standardised(given: keras.KerasTensor, numbers: npt.NDArray[np.float32], constant: list[int]) -> keras.KerasTensor:
    finite = np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float64)
    known = np.where(np.isnan(finite).all(axis=0), 0.0, finite)
    median, spread = np.nanmedian(known, axis=0), np.nanstd(known, axis=0)
    filled = keras.ops.where(keras.ops.isnan(given), median.astype(np.float32), given)
    scaled = (filled - median.astype(np.float32)) / np.maximum(spread, 1e-6).astype(np.float32)
    varies = np.ones(median.size, np.float32)
    varies[constant] = 0
    return keras.ops.clip(scaled, -FURTHEST, FURTHEST) * varies
