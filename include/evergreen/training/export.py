"""The ONNX graph of a fitted model: raw feature columns in, calibrated score out, every encoder inside.

B rows, N numeric features, C categorical features; see scorer.py for the inputs. Built node by node, so that the
same weights give the same bytes and a single row costs few nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from evergreen.errors import EvergreenError
from evergreen.training.blend import Blend
from evergreen.training.dataset import Examples
from evergreen.training.encoders import Encoders
from evergreen.training.network import NumericEmbedding, TabularNetwork
from evergreen.training.scorer import Signature, categorical_matrix
from evergreen.training.tree_nodes import tree_attributes
from evergreen.training.trees import Trees

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 9
TOLERANCE = 1e-5
"""Largest difference of probability between the graph and its members."""
CHECKED_AT_ONCE = 8192
"""Rows: a run of the graph holds what every node gives for all of them, about 8 KB a row of the sample's."""


class Graph:
    """Nodes and constants in the order they were added; every method gives the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of a new node."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        """A new initializer."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def floats(self, *values: float) -> str:
        """A new initializer of float32."""
        return self.constant(np.array(values, np.float32))

    def scalar(self, value: float) -> str:
        """A new initializer of float32 without axes."""
        return self.constant(np.array(value, np.float32))

    def indices(self, *values: int) -> str:
        """A new initializer of int64."""
        return self.constant(np.array(values, np.int64))


def build_graph(
    networks: Sequence[TabularNetwork], trees: Trees | None, encoders: Encoders, blend: Blend, signature: Signature
) -> ModelProto:
    """The whole model as one graph; members share the encoders."""
    graph = Graph()
    inputs = _Inputs(graph, encoders, signature)
    logits = [_weighted(graph, _network(graph, network, inputs), blend.networks) for network in networks]
    if trees is not None:
        logits.append(_trees(graph, trees, inputs, weight=blend.trees))
    scaled = graph.add("Mul", _sum(graph, logits), graph.floats(blend.calibration.slope))
    shifted = graph.add("Add", scaled, graph.floats(blend.calibration.intercept))
    column = _probability(graph, shifted)
    graph.nodes.append(helper.make_node("Reshape", [column, graph.indices(-1)], ["score"]))
    return _model(graph, signature)


def _probability(graph: Graph, logits: str) -> str:
    """1 / (1 + exp(-logits)), exact for rare events: ONNX Runtime's Sigmoid is 7 % off at 1e-6, and 0 below 1e-7."""
    odds_against = graph.add("Exp", graph.add("Neg", logits))
    return graph.add("Reciprocal", graph.add("Add", odds_against, graph.floats(1.0)))


def require_equal(
    path: Path, rows: Examples, signature: Signature, wanted: npt.NDArray[np.float64], *, threads: int
) -> None:
    """Nothing when the graph at `path` scores `rows` as `wanted` [B]; EvergreenError otherwise."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = _scores(session, rows, signature)
    worst = float(np.max(np.abs(found - wanted)))
    if not worst <= TOLERANCE:
        raise EvergreenError(
            "Exported model",
            found=f"scores up to {worst:.2g} away from the model's",
            wanted=f"at most {TOLERANCE}",
            remedy="This is a defect of the export; please report it with the training set's digest.",
        )


def _scores(session: ort.InferenceSession, rows: Examples, signature: Signature) -> npt.NDArray[np.float32]:
    """float32 [B], a slice of the rows after the other."""
    parts = []
    for some in rows.slices(CHECKED_AT_ONCE):
        inputs = {
            "numeric": some.numeric,
            "categorical": categorical_matrix(some.categorical, signature.categorical),
        }
        (found,) = session.run(["score"], {given.name: inputs[given.name] for given in session.get_inputs()})
        parts.append(found)
    return np.concatenate(parts)


class _Inputs:
    """What members start from, each made when the first asks for it. F columns of numbers, E embedded categories."""

    def __init__(self, graph: Graph, encoders: Encoders, signature: Signature) -> None:
        self.graph, self.encoders, self.signature = graph, encoders, signature

    @property
    def has_numbers(self) -> bool:
        """Whether F is above 0."""
        return bool(self.signature.numeric or self.encoders.targets)

    @cached_property
    def values(self) -> str:
        """[B, F] numbers and target encodings, NaN where missing."""
        columns = ["numeric"] if self.signature.numeric else []
        for target in self.encoders.targets:
            table = {"keys_strings": list(target.levels), "values_floats": list(target.log_odds), "default_float": 0.0}
            columns.append(_looked_up(self.graph, target.column, self.signature, **table))
        return _joined(self.graph, columns)

    @cached_property
    def absent(self) -> str:
        """Bool [B, F]: where values are missing."""
        return self.graph.add("IsNaN", self.values)

    @cached_property
    def clipped(self) -> str:
        """[B, F]: the median where missing, and within the smallest and largest knot."""
        knots = self.encoders.numeric
        filled = self.graph.add("Where", self.absent, self.graph.constant(knots.median), self.values)
        above = self.graph.add("Max", filled, self.graph.constant(knots.first))
        return self.graph.add("Min", above, self.graph.constant(knots.last))

    @cached_property
    def bounded(self) -> str:
        """[B, F]: the same, but NaN stays in flagged columns, as `NumericEncoder.bounded` has it."""
        knots = self.encoders.numeric
        if not knots.flagged:
            return self.clipped
        flagged = np.isin(np.arange(knots.median.size), knots.flagged)
        missing = self.graph.add("And", self.absent, self.graph.constant(flagged))
        return self.graph.add("Where", missing, self.graph.scalar(np.nan), self.clipped)

    @cached_property
    def bins(self) -> str:
        """[F, B, T]: how far through each bin the values are."""
        graph, knots = self.graph, self.encoders.numeric
        by_column = graph.add("Unsqueeze", graph.add("Transpose", self.clipped, perm=[1, 0]), graph.indices(2))
        into = graph.add("Sub", by_column, graph.constant(knots.lower[:, None, :]))
        share = graph.add("Mul", into, graph.constant(knots.inverse[:, None, :]))
        return graph.add("Clip", share, graph.scalar(0.0), graph.scalar(1.0))

    @cached_property
    def flags(self) -> list[str]:
        """[B, K]: which of the flagged columns are missing, where there are any."""
        flagged = self.encoders.numeric.flagged
        if not flagged:
            return []
        chosen = self.graph.add("Gather", self.absent, self.graph.indices(*flagged), axis=1)
        return [self.graph.add("Cast", chosen, to=TensorProto.FLOAT)]

    @cached_property
    def levels(self) -> list[str]:
        """int64 [B, 1] of each embedded category: its index."""
        return [_looked_up(self.graph, v.column, self.signature, **v.index_table) for v in self.encoders.vocabularies]


def _network(graph: Graph, network: TabularNetwork, inputs: _Inputs) -> str:
    """[B, 1]: the logit of one network."""
    numbers = [_piecewise_linear(graph, network.numbers, inputs.bins), *inputs.flags] if inputs.has_numbers else []
    return _perceptron(graph, network, _joined(graph, [*numbers, *_categories(graph, network, inputs)]))


def _trees(graph: Graph, trees: Trees, inputs: _Inputs, *, weight: float) -> str:
    """[B, 1]: `weight` times the logit of the trees."""
    numbers = [inputs.bounded] if inputs.has_numbers else []
    for level, vocabulary in zip(inputs.levels, inputs.encoders.vocabularies, strict=True):
        numbers.append(graph.add("Gather", graph.constant(vocabulary.risks), level, axis=0))
    attributes = tree_attributes(trees.text, weight=weight)
    return graph.add("TreeEnsembleRegressor", _joined(graph, numbers), domain="ai.onnx.ml", **attributes)


def _piecewise_linear(graph: Graph, block: NumericEmbedding, bins: str) -> str:
    """[B, F * D]: what `NumericEmbedding.forward` makes of the bins, one matrix product a column."""
    weight, bias = (_array(tensor) for tensor in block.folded())
    product = graph.add("MatMul", bins, graph.constant(weight))
    by_row = graph.add("Transpose", product, perm=[1, 0, 2])
    embedded = graph.add("Add", by_row, graph.constant(bias))
    return graph.add("Reshape", embedded, graph.indices(-1, bias.size))


def _categories(graph: Graph, network: TabularNetwork, inputs: _Inputs) -> list[str]:
    """An embedding [B, D] of each category."""
    embedded = []
    for level, table in zip(inputs.levels, network.categories, strict=True):
        flat = graph.add("Reshape", level, graph.indices(-1))
        embedded.append(graph.add("Gather", graph.constant(_array(table)), flat, axis=0))
    return embedded


def _looked_up(graph: Graph, column: str, signature: Signature, **table: Any) -> str:
    """[B, 1]: what `table`, the attributes of a LabelEncoder, has for the column's levels."""
    text = graph.add("Gather", "categorical", graph.indices(signature.categorical.index(column)), axis=1)
    return graph.add("LabelEncoder", text, domain="ai.onnx.ml", **table)


def _perceptron(graph: Graph, network: TabularNetwork, x: str) -> str:
    """[B, 1]: the logit."""
    for layer in (*network.layers, network.output):
        weight, bias = (graph.constant(_array(tensor)) for tensor in (layer.weight, layer.bias))
        x = graph.add("Gemm", x, weight, bias, transB=1)
        if layer is not network.output:
            x = graph.add("Relu", x)
    return x


def _weighted(graph: Graph, logit: str, weight: float) -> str:
    return logit if weight == 1.0 else graph.add("Mul", logit, graph.floats(weight))


def _sum(graph: Graph, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else graph.add("Sum", *parts)


def _joined(graph: Graph, columns: list[str]) -> str:
    return columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=1)


def _model(graph: Graph, signature: Signature) -> ModelProto:
    shapes = {
        "numeric": (TensorProto.FLOAT, len(signature.numeric)),
        "categorical": (TensorProto.STRING, len(signature.categorical)),
    }
    inputs = [helper.make_tensor_value_info(name, kind, ["B", n]) for name, (kind, n) in shapes.items() if n]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"])
    body = helper.make_graph(graph.nodes, "evergreen", inputs, [score], graph.constants)
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    return helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="evergreen")


def _array(tensor: Any) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array
