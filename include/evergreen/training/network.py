"""The network: encoded numbers and embedded categories into a multi-layer perceptron.

B rows, F columns of numbers, T bins, E categorical columns, D width of an embedding, K flags, H units over all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from evergreen.training.encoders import Encoders
from evergreen.training.numeric_encoder import NumericEncoder

EMBEDDING_WIDTH = 8


class NumericEmbedding(nn.Module):
    """Piecewise-linear encoding, then a linear map of its own for each column, then the flags of missing values.

    The map starts as that of the normal quantile alone; bins depart from zero as the data ask for it
    (version B of `PiecewiseLinearEmbeddings` in Gorishniy et al. 2022).
    """

    median: Tensor
    first: Tensor
    last: Tensor
    lower: Tensor
    inverse: Tensor
    offset: Tensor
    steps: Tensor
    flagged: Tensor

    def __init__(self, encoder: NumericEncoder) -> None:
        super().__init__()
        for name in ("median", "first", "last", "lower", "inverse", "offset", "steps"):
            self.register_buffer(name, torch.from_numpy(getattr(encoder, name)))
        self.register_buffer("flagged", torch.tensor(encoder.flagged, dtype=torch.int64))
        columns, bins = encoder.lower.shape
        self.slope = _uniform(columns, EMBEDDING_WIDTH)
        self.bias = _uniform(columns, EMBEDDING_WIDTH)
        self.bins = nn.Parameter(torch.zeros(columns, bins, EMBEDDING_WIDTH))

    @property
    def width(self) -> int:
        """Numbers a row becomes: F * D + K."""
        return self.slope.numel() + self.flagged.numel()

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight [F, T, D] and bias [F, D] of the map from bins to embeddings, the normal quantile included."""
        weight = torch.addcmul(self.bins, self.steps.unsqueeze(2), self.slope.unsqueeze(1))
        return weight, torch.addcmul(self.bias, self.offset.unsqueeze(1), self.slope)

    def forward(self, values: Tensor) -> Tensor:
        """[F * D + K, B] from [B, F] with NaN where missing."""
        columns = values.T.contiguous()
        absent = columns.isnan()
        median, first, last = (knots.unsqueeze(1) for knots in (self.median, self.first, self.last))
        present = torch.where(absent, median, columns).maximum(first).minimum(last)
        bins = (present.unsqueeze(1) - self.lower.unsqueeze(2)).mul_(self.inverse.unsqueeze(2)).clamp_(0, 1)
        weight, bias = self.folded()
        embedded = torch.baddbmm(bias.unsqueeze(2), weight.transpose(1, 2), bins)
        return torch.cat([embedded.flatten(0, 1), absent[self.flagged].to(embedded.dtype)])


class TabularNetwork(nn.Module):
    """Rows in, one logit each out."""

    def __init__(self, encoders: Encoders, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.numbers = NumericEmbedding(encoders.numeric)
        self.categories = nn.ParameterList(
            _uniform(len(vocabulary.levels) + 1, EMBEDDING_WIDTH) for vocabulary in encoders.vocabularies
        )
        width = self.numbers.width + EMBEDDING_WIDTH * len(self.categories)
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise((width, *hidden)))
        self.output = nn.Linear(hidden[-1], 1)
        self.dropout = min(round(256 * dropout), 255) / 256  # chance is drawn by the byte

    @property
    def num_units(self) -> int:
        """H, the units dropout chooses from."""
        return sum(layer.out_features for layer in self._linear())

    def start_from(self, prior: float) -> None:
        """Make every first prediction the log-odds of `prior`, so that no step is lost on learning the rate."""
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.fill_(torch.logit(torch.tensor(prior, dtype=torch.float64)).item())

    def forward(self, values: Tensor, indices: Tensor, kept: Tensor | None = None) -> Tensor:
        """Logits [B] from numbers [B, F] and indices [B, E]; `kept` [B, H] says which units dropout keeps."""
        x = joined(self.numbers, self.categories, values, indices)
        widths = [layer.out_features for layer in self._linear()]
        units = torch.split(kept, widths, 1) if kept is not None else ()
        for number, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if units:
                x = dropped(x, units[number], self.dropout)
        return self.output(x).squeeze(1)  # type: ignore[no-any-return]

    def _linear(self) -> Iterator[nn.Linear]:
        return (layer for layer in self.layers if isinstance(layer, nn.Linear))


def dropped(x: Tensor, kept: Tensor, share: float) -> Tensor:
    """`x` without the units whose `kept` is 0; the others are raised so that their sum stays the same on average.

    In bfloat16 as nearly as it can say so: to 0.4 %.
    """
    return x * kept.to(x.dtype).mul_(1 / (1 - share))


def joined(numbers: NumericEmbedding, tables: Iterable[Tensor], values: Tensor, indices: Tensor) -> Tensor:
    """[B, F * D + K + E * D], what the first layer takes; in memory each feature's B numbers lie together.

    Most products have only D columns or rows: along B they take a third of the time.
    """
    encoded = numbers(values)
    embedded = (_looked_up(table, indices[:, column]).to(encoded.dtype) for column, table in enumerate(tables))
    return torch.cat([encoded, *embedded]).T


def _looked_up(table: Tensor, levels: Tensor) -> Tensor:
    """[D, B]: gathered, because gradients then take a sixth of an embedding's time."""
    return table.T.gather(1, levels.expand(table.shape[1], -1))


def _uniform(*shape: int) -> nn.Parameter:
    reach = EMBEDDING_WIDTH**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-reach, reach))
