"""Speed of training steps: shares of the rate at which this machine multiplies the same matrices, and a row loader.

One thread, CPU seconds, approaches in turn within one process, medians of five. The product's step is the whole of
it: rows gathered, dropout drawn, forward, backward, optimizer and moving average. The matrix products are those of
the same step and nothing else. The row loader feeds the same network row by row through torch's DataLoader and
torch's own AdamW, as most training scripts do. Before time counts, losses of the product's step must fall, those in
bf16 must stay near those in f32, and the loader's network must learn as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from benchmarks.labelled import make
from torch import Tensor, nn

from evergreen.pipeline import Training
from evergreen.training.batch import Batch
from evergreen.training.dataset import Examples
from evergreen.training.devices import multiplies_in
from evergreen.training.encoders import Encoders, fit_encoders
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import WHOLE, Rows
from evergreen.training.scorer import numeric_matrix
from evergreen.training.state import TrainingState, fingerprint
from evergreen.training.strategy import Alone

ROWS = 60_000
REPEATS, STEPS = 5, 20
LOADER_ROWS = 2048
SHAPES = {
    "default": Training(),
    "wide": Training(batch_rows=1024, hidden=(256, 256, 256), dropout=0.35),
    "large": Training(batch_rows=1024, hidden=(512, 512, 512), dropout=0.35),
    "huge": Training(batch_rows=1024, hidden=(1024, 1024, 1024), dropout=0.35),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
GOALS = {"f32": 0.8, "bf16": 0.7}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Rows per CPU second."""

    shape: str
    dtype: str
    ours: float
    products: float
    row_loader: float

    @property
    def fraction(self) -> float:
        """Of the matrix products' rate."""
        return self.ours / self.products


def print_speed(dtypes: tuple[str, ...], *, as_json: bool) -> None:
    """A line for each shape and type, or one JSON object."""
    torch.set_num_threads(1)
    rows, encoders = _rows()
    native = [dtype for dtype in dtypes if multiplies_in(DTYPES[dtype], torch.device("cpu"))]
    speeds = [_measure(shape, dtype, rows, encoders) for shape in SHAPES for dtype in native]
    left_out = {dtype: "this processor does not multiply in it" for dtype in dtypes if dtype not in native}
    if as_json:
        print(json.dumps({"speeds": [vars(s) | {"fraction": s.fraction} for s in speeds], "left_out": left_out}))
        return
    print("shape    type  rows/CPU s  products   fraction (goal)  row loader   ratio")
    for s in speeds:
        print(
            f"{s.shape:8} {s.dtype:4}  {s.ours:10,.0f}  {s.products:8,.0f}  {s.fraction:9.2f} ({GOALS[s.dtype]})"
            f"  {s.row_loader:10,.0f}  {s.ours / s.row_loader:5.1f}x"
        )
    for dtype, reason in left_out.items():
        print(f"{dtype} not measured: {reason}")


def _rows() -> tuple[Rows, Encoders]:
    labelled = make("orders", 7)
    frame, features = labelled.parts["train"].head(ROWS), labelled.pipeline.features
    examples = Examples(
        numeric=numeric_matrix(frame, features.numeric),
        categorical=frame.select(features.categorical),
        labels=frame["label"].cast(float).to_numpy().astype("float32"),
    )
    encoders, encoded = fit_encoders(examples)
    return Rows.on(torch.device("cpu"), encoded), encoders


def _measure(shape: str, dtype: str, rows: Rows, encoders: Encoders) -> Speed:
    training = SHAPES[shape]
    step, size = _Ours(rows, encoders, training, DTYPES[dtype]), training.batch_rows
    reference = _Ours(rows, encoders, training, torch.float32)
    products = _products(encoders, step.network, size, DTYPES[dtype])
    loader = _row_loader(rows, encoders, training)
    losses, wanted = ([run() for _ in range(40)] for run in (step, reference))
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10]), "the network does not learn"
    assert abs(sum(losses[-10:]) - sum(wanted[-10:])) < 0.1 * sum(wanted[-10:]), f"{dtype} learns something else"
    products()
    ours, multiplied, loaded = [], [], []
    for _ in range(REPEATS):
        ours.append(STEPS * size / _cpu_seconds(lambda: [step() for _ in range(STEPS)]))
        multiplied.append(STEPS * size / _cpu_seconds(lambda: [products() for _ in range(STEPS)]))
        loaded.append(LOADER_ROWS / _cpu_seconds(loader))
    return Speed(
        shape=shape,
        dtype=dtype,
        ours=median(ours),
        products=median(multiplied),
        row_loader=median(loaded),
    )


class _Ours:
    """The product's training step; every call takes the next rows and gives the mean loss."""

    def __init__(self, rows: Rows, encoders: Encoders, training: Training, precision: torch.dtype) -> None:
        torch.manual_seed(7)
        self.network = TabularNetwork(encoders, hidden=training.hidden, dropout=training.dropout)
        self.network.start_from(0.5)
        self.strategy = Alone(self.network, precision=precision)
        self.state = TrainingState(self.network, training, architecture=fingerprint(self.network))
        self.rows, self.training = rows, training
        self.draws = torch.Generator().manual_seed(7)
        self.order = torch.randperm(rows.num_rows, generator=self.draws)
        self.at = 0

    def __call__(self) -> float:
        size = self.training.batch_rows
        if self.at + size > self.rows.num_rows:
            self.at = 0
        chosen = self.rows.take(self.order[self.at : self.at + size])
        self.at += size
        batch = Batch.draw(chosen, self.network, size=size, share=WHOLE, draws=self.draws)
        loss = self.strategy.accumulate(batch, size)
        self.state.step(self.training.learning_rate)
        return float(loss) / size


def _products(encoders: Encoders, network: TabularNetwork, size: int, dtype: torch.dtype) -> Callable[[], None]:
    """Every matrix product of one step, forward and backward, on matrices that lie ready as the step has them."""
    columns, bins = encoders.numeric.lower.shape
    width = network.numbers.slope.shape[1]
    joined = network.layers[0].weight.shape[1]
    sizes = list(pairwise((joined, *(layer.weight.shape[0] for layer in network.layers), 1)))
    given = torch.rand(columns, bins, size).to(dtype)
    table, above = torch.rand(columns, width, bins).to(dtype), torch.rand(columns, width, size).to(dtype)
    layers = [tuple(torch.rand(*shape).to(dtype) for shape in ((size, i), (o, i), (size, o))) for i, o in sizes]

    def multiply() -> None:
        torch.bmm(table, given)
        torch.bmm(above, given.transpose(1, 2))
        for inputs, weight, gradient in layers:
            torch.mm(inputs, weight.T)
            torch.mm(gradient.T, inputs)
            torch.mm(gradient, weight)

    return multiply


class _RowSet(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return LOADER_ROWS

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.rows.values[at], self.rows.indices[at], self.rows.given[at]


def _row_loader(rows: Rows, encoders: Encoders, training: Training) -> Callable[[], None]:
    """An epoch of `LOADER_ROWS` rows as a plain training script runs it, in f32."""
    torch.manual_seed(7)
    network = TabularNetwork(encoders, hidden=training.hidden, dropout=training.dropout)
    network.start_from(0.5)
    loader = torch.utils.data.DataLoader(_RowSet(rows), batch_size=training.batch_rows, shuffle=True)
    optimizer = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    loss_of = nn.BCEWithLogitsLoss()

    def epoch() -> None:
        for values, indices, labels in loader:
            kept = torch.rand(labels.numel(), network.num_units) >= training.dropout
            loss = loss_of(network(values, indices, kept), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    first = _loss(network, rows)
    for _ in range(max(2, 20 * training.batch_rows // LOADER_ROWS)):
        epoch()
    assert _loss(network, rows) < 0.9 * first, "the row loader's network does not learn"
    return epoch


@torch.no_grad()
def _loss(network: TabularNetwork, rows: Rows) -> float:
    some = rows.take(slice(0, LOADER_ROWS))
    return float(nn.functional.binary_cross_entropy_with_logits(network(some.values, some.indices), some.given))


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
