"""Everything fitted to the train part before the network: numeric knots, vocabularies, target encodings.

B rows, N numeric features, H categorical features with many levels, E with few; F = N + H columns of numbers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evergreen.training.category_encoder import (
    MOST_EMBEDDED_LEVELS,
    TargetEncoding,
    Vocabulary,
    fit_target_encoding,
    fit_vocabulary,
)
from evergreen.training.dataset import Examples
from evergreen.training.numeric_encoder import NumericEncoder, fit_numeric

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """Plain data; the network and the ONNX graph are both built from it."""

    numeric: NumericEncoder
    """Of the N numeric features, then of the H target encodings."""
    targets: tuple[TargetEncoding, ...]
    vocabularies: tuple[Vocabulary, ...]

    def encode(self, examples: Examples) -> Encoded:
        """What the network takes, for rows that none of this was fitted to."""
        return self._encoded(examples, [t.encode(examples.categorical[t.column]) for t in self.targets])

    def tree_columns(self, values: npt.NDArray[np.float32], indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """What trees take, [B, F + E]: bounded numbers, then the log-odds of each embedded category."""
        risks = [v.risks[column] for v, column in zip(self.vocabularies, indices.T, strict=True)]
        return np.column_stack([self.numeric.bounded(values), *risks])

    def _encoded(self, examples: Examples, targets: list[npt.NDArray[np.float32]]) -> Encoded:
        indices = [v.encode(examples.categorical[v.column]) for v in self.vocabularies]
        return Encoded(
            numeric=np.column_stack([examples.numeric, *targets]),
            categories=np.column_stack([np.empty((examples.rows, 0), np.int64), *indices]),
            labels=examples.labels,
        )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Rows as the network takes them."""

    numeric: npt.NDArray[np.float32]
    """[B, F], NaN where missing."""
    categories: npt.NDArray[np.int64]
    """[B, E], 0 where unknown."""
    labels: npt.NDArray[np.float32]
    """[B]."""


def fit_encoders(train: Examples) -> tuple[Encoders, Encoded]:
    """Encoders of the train part, and its rows with target encodings from other folds than their own."""
    vocabularies: list[Vocabulary] = []
    targets: list[TargetEncoding] = []
    out_of_fold: list[npt.NDArray[np.float32]] = []
    for values in train.categorical:
        if values.n_unique() <= MOST_EMBEDDED_LEVELS:
            vocabularies.append(fit_vocabulary(values, train.labels))
        else:
            encoding, own = fit_target_encoding(values, train.labels)
            targets.append(encoding)
            out_of_fold.append(own)
    numeric = fit_numeric(np.column_stack([train.numeric, *out_of_fold]))
    encoders = Encoders(numeric=numeric, targets=tuple(targets), vocabularies=tuple(vocabularies))
    return encoders, encoders._encoded(train, out_of_fold)


def warn_of_constants(encoders: Encoders, names: tuple[str, ...]) -> None:
    """Log the features that never vary, of which `names` are the numeric ones: they cost time and teach nothing."""
    constant = [names[i] for i in encoders.numeric.constant if i < len(names)]
    constant += [vocabulary.column for vocabulary in encoders.vocabularies if vocabulary.constant]
    if constant:
        logger.warning("features without two different values in the train part: %s", ", ".join(constant))
