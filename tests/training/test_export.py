"""The graph scores as the network does, for rows no training ever saw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import polars as pl
import pytest
import torch

from evergreen.errors import EvergreenError
from evergreen.training.blend import Blend
from evergreen.training.calibration import Calibration
from evergreen.training.dataset import Examples
from evergreen.training.encoders import Encoders, fit_encoders
from evergreen.training.export import build_graph, require_equal
from evergreen.training.loop import score
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import Rows
from evergreen.training.scorer import Signature, categorical_matrix, numeric_matrix

CALIBRATION = Calibration(slope=0.8, intercept=-1.5)
BLEND = Blend(networks=1.0, trees=0.0, calibration=CALIBRATION)
MEMORY = """
import resource, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import polars as pl
import torch
from evergreen.training.blend import Blend
from evergreen.training.calibration import Calibration
from evergreen.training.dataset import Examples
from evergreen.training.encoders import fit_encoders
from evergreen.training.export import build_graph, require_equal
from evergreen.training.loop import score
from evergreen.training.network import TabularNetwork
from evergreen.training.rows import Rows
from evergreen.training.scorer import Signature

torch.set_num_threads(1)
random, rows = np.random.default_rng(0), int(sys.argv[1])
signature = Signature(numeric=tuple(f"n{i}" for i in range(12)), categorical=("c",))
examples = Examples(
    numeric=random.normal(size=(rows, 12)).astype(np.float32),
    categorical=pl.DataFrame({"c": random.integers(0, 20, rows).astype(str)}),
    labels=(random.random(rows) < 0.1).astype(np.float32),
)
encoders, _ = fit_encoders(examples.take(np.arange(4000)))
network = TabularNetwork(encoders, hidden=(8,), dropout=0.0)
blend = Blend(networks=1.0, trees=0.0, calibration=Calibration(slope=1.0, intercept=0.0))
graph = build_graph([network], None, encoders, blend, signature)
wanted = blend.probability([score(network, Rows.on(torch.device("cpu"), encoders.encode(examples)), 1024)], None)
with TemporaryDirectory() as folder:
    path = Path(folder) / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    require_equal(path, examples, signature, wanted, threads=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""Checks the graph of an untrained network on so many rows; says the peak of the process in KiB."""
SIGNATURES = {
    "both": Signature(numeric=("amount", "card_since_last"), categorical=("channel", "merchant_id")),
    "numbers only": Signature(numeric=("amount", "card_since_last", "hour"), categorical=()),
    "categories only": Signature(numeric=(), categorical=("channel", "merchant_id")),
    "one embedded category": Signature(numeric=(), categorical=("channel",)),
}


def _examples(frame: pl.DataFrame, signature: Signature) -> Examples:
    return Examples(
        numeric=numeric_matrix(frame, signature.numeric),
        categorical=frame.select(signature.categorical),
        labels=frame["label"].cast(pl.Float32).to_numpy(),
    )


def _odd_rows(frame: pl.DataFrame) -> pl.DataFrame:
    odd = {"amount": [np.inf, -np.inf, None, 1e30], "card_since_last": [None, 0.0, -5.0, None]}
    odd |= {"channel": ["online", "", "unseen", "chip"], "merchant_id": ["m1", "", "m\u00fcnchen", "m2"]}
    return frame.head(4).with_columns(**{name: pl.Series(values) for name, values in odd.items()})


def _network(encoders: Encoders) -> TabularNetwork:
    torch.manual_seed(1)
    network = TabularNetwork(encoders, hidden=(16, 8), dropout=0.5)
    torch.nn.init.normal_(network.numbers.bins)
    return network


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_graph_equals_network_on_missing_unseen_and_infinite_values(
    signature: Signature, make_rows: Callable[..., pl.DataFrame]
) -> None:
    frame = make_rows(2000)
    encoders, _ = fit_encoders(_examples(frame, signature))
    network = _network(encoders)
    graph = build_graph([network], None, encoders, BLEND, signature).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for rows in (frame, _odd_rows(frame), frame.head(1)):
        given = {
            "numeric": numeric_matrix(rows, signature.numeric),
            "categorical": categorical_matrix(rows, signature.categorical),
        }
        (found,) = session.run(["score"], {i.name: given[i.name] for i in session.get_inputs()})
        logits = score(network, Rows.on(torch.device("cpu"), encoders.encode(_examples(rows, signature))))
        assert found.shape == (rows.height,)
        assert found == pytest.approx(CALIBRATION.probability(logits), abs=1e-6)


def test_unseen_category_and_missing_number_change_nothing_but_their_own_row(
    make_rows: Callable[..., pl.DataFrame],
) -> None:
    frame, signature = make_rows(500), SIGNATURES["both"]
    encoders, _ = fit_encoders(_examples(frame, signature))
    network = _network(encoders)
    mixed = pl.concat([frame.head(4), _odd_rows(frame)])
    encoded = Rows.on(torch.device("cpu"), encoders.encode(_examples(mixed, signature)))
    assert score(network, encoded)[:4] == pytest.approx(score(network, encoded.take(slice(0, 4))), abs=1e-6)


def test_small_probabilities_are_as_exact_as_large_ones(make_rows: Callable[..., pl.DataFrame]) -> None:
    frame, signature = make_rows(500), SIGNATURES["numbers only"]
    examples = _examples(frame, signature)
    encoders, _ = fit_encoders(examples)
    network = _network(encoders)
    rare = Calibration(slope=0.1, intercept=-18.0)
    blend = Blend(networks=1.0, trees=0.0, calibration=rare)
    graph = build_graph([network], None, encoders, blend, signature).SerializeToString()
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(["score"], {"numeric": numeric_matrix(frame, signature.numeric)})
    wanted = rare.probability(score(network, Rows.on(torch.device("cpu"), encoders.encode(examples))))
    assert 0 < wanted.min() < wanted.max() < 1e-6
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_graph_that_differs_is_refused(tmp_path: Path, make_rows: Callable[..., pl.DataFrame]) -> None:
    frame, signature = make_rows(500), SIGNATURES["numbers only"]
    encoders, _ = fit_encoders(_examples(frame, signature))
    path = tmp_path / "model.onnx"
    path.write_bytes(build_graph([_network(encoders)], None, encoders, BLEND, signature).SerializeToString())
    wanted = np.full(frame.height, 0.5)
    with pytest.raises(EvergreenError, match="away from the model's"):
        require_equal(path, _examples(frame, signature), signature, wanted, threads=1)


@pytest.mark.parametrize("row", [0, 8191, 8192, 8199])
@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_every_slice_of_the_rows_counts(
    tmp_path: Path, make_rows: Callable[..., pl.DataFrame], row: int, wrong: float
) -> None:
    signature = SIGNATURES["numbers only"]
    examples = _examples(make_rows(8200), signature)
    encoders, encoded = fit_encoders(examples)
    network, path = _network(encoders), tmp_path / "model.onnx"
    path.write_bytes(build_graph([network], None, encoders, BLEND, signature).SerializeToString())
    wanted = CALIBRATION.probability(score(network, Rows.on(torch.device("cpu"), encoded)))
    require_equal(path, examples, signature, wanted, threads=1)
    wanted[row] = wrong
    with pytest.raises(EvergreenError, match="away from the model's"):
        require_equal(path, examples, signature, wanted, threads=1)


def test_eight_times_the_rows_are_checked_in_the_same_memory() -> None:
    peaks = []
    for rows in (8192, 8 * 8192):
        done = subprocess.run([sys.executable, "-c", MEMORY, str(rows)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.25 * peaks[0], f"peaks of {peaks} KiB"


def test_the_same_network_gives_the_same_bytes(make_rows: Callable[..., pl.DataFrame]) -> None:
    signature = SIGNATURES["both"]
    encoders, _ = fit_encoders(_examples(make_rows(500), signature))
    network = _network(encoders)
    one, two = (build_graph([network], None, encoders, BLEND, signature) for _ in range(2))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
