"""The ONNX graph of a fitted model: raw feature columns in, calibrated score out, every encoder inside.

B rows, N numeric features, C categorical features; see scorer.py for the inputs. Built node by node, so that the
same weights give the same bytes and a single row costs few nodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from evergreen.errors import EvergreenError
from evergreen.training.calibration import Calibration
from evergreen.training.encoders import Encoders
from evergreen.training.network import NumericEmbedding, TabularNetwork
from evergreen.training.scorer import Signature

OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 9
TOLERANCE = 1e-5
"""Largest difference of probability between the graph and the network."""


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
    network: TabularNetwork, encoders: Encoders, calibration: Calibration, signature: Signature
) -> ModelProto:
    """The whole model as one graph."""
    graph = Graph()
    joined = [*_numbers(graph, network.numbers, encoders, signature), *_categories(graph, network, encoders, signature)]
    logit = _perceptron(graph, network, _joined(graph, joined))
    scaled = graph.add("Mul", logit, graph.floats(calibration.slope))
    shifted = graph.add("Add", scaled, graph.floats(calibration.intercept))
    column = graph.add("Sigmoid", shifted)
    graph.nodes.append(helper.make_node("Reshape", [column, graph.indices(-1)], ["score"]))
    return _model(graph, signature)


def require_equal(
    path: Path, inputs: dict[str, npt.NDArray[Any]], wanted: npt.NDArray[np.float64], *, threads: int
) -> None:
    """Nothing when the graph at `path` scores `inputs` as `wanted` [B]; EvergreenError otherwise."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["score"], inputs)
    worst = float(np.max(np.abs(found - wanted)))
    if not worst <= TOLERANCE:
        raise EvergreenError(
            "Exported model",
            found=f"scores up to {worst:.2g} away from the network's",
            wanted=f"at most {TOLERANCE}",
            remedy="This is a defect of the export; please report it with the training set's digest.",
        )


def _numbers(graph: Graph, block: NumericEmbedding, encoders: Encoders, signature: Signature) -> list[str]:
    """Embeddings [B, F * D] of the numbers, then the flags [B, K], where there are any."""
    columns = ["numeric"] if signature.numeric else []
    for target in encoders.targets:
        looked_up = _looked_up(graph, target.column, target.levels, signature, floats=target.log_odds)
        columns.append(looked_up)
    if not columns:
        return []
    values = _joined(graph, columns)
    absent = graph.add("IsNaN", values)
    filled = graph.add("Where", absent, graph.constant(_array(block.median)), values)
    above = graph.add("Max", filled, graph.constant(_array(block.first)))
    clipped = graph.add("Min", above, graph.constant(_array(block.last)))
    embedded = _piecewise_linear(graph, block, clipped)
    if block.flagged.numel() == 0:
        return [embedded]
    flags = graph.add("Gather", absent, graph.constant(_array(block.flagged)), axis=1)
    return [embedded, graph.add("Cast", flags, to=TensorProto.FLOAT)]


def _piecewise_linear(graph: Graph, block: NumericEmbedding, values: str) -> str:
    """[B, F * D]: what `NumericEmbedding.forward` does after clipping, one matrix product a column."""
    weight, bias = (_array(tensor) for tensor in block.folded())
    by_column = graph.add("Unsqueeze", graph.add("Transpose", values, perm=[1, 0]), graph.indices(2))
    into = graph.add("Sub", by_column, graph.constant(_array(block.lower)[:, None, :]))
    share = graph.add("Mul", into, graph.constant(_array(block.inverse)[:, None, :]))
    bins = graph.add("Clip", share, graph.scalar(0.0), graph.scalar(1.0))
    product = graph.add("MatMul", bins, graph.constant(weight))
    by_row = graph.add("Transpose", product, perm=[1, 0, 2])
    embedded = graph.add("Add", by_row, graph.constant(bias))
    return graph.add("Reshape", embedded, graph.indices(-1, bias.size))


def _categories(graph: Graph, network: TabularNetwork, encoders: Encoders, signature: Signature) -> list[str]:
    """An embedding [B, D] of each category."""
    embedded = []
    for vocabulary, table in zip(encoders.vocabularies, network.categories, strict=True):
        index = _looked_up(graph, vocabulary.column, vocabulary.levels, signature)
        flat = graph.add("Reshape", index, graph.indices(-1))
        embedded.append(graph.add("Gather", graph.constant(_array(table)), flat, axis=0))
    return embedded


def _looked_up(
    graph: Graph, column: str, levels: tuple[str, ...], signature: Signature, *, floats: tuple[float, ...] | None = None
) -> str:
    """[B, 1]: the level's float, or its index from 1; 0 for a level not seen in training."""
    position = graph.indices(signature.categorical.index(column))
    text = graph.add("Gather", "categorical", position, axis=1)
    table: dict[str, Any] = {"keys_strings": list(levels)}
    if floats is None:
        table |= {"values_int64s": list(range(1, len(levels) + 1)), "default_int64": 0}
    else:
        table |= {"values_floats": list(floats), "default_float": 0.0}
    return graph.add("LabelEncoder", text, domain="ai.onnx.ml", **table)


def _perceptron(graph: Graph, network: TabularNetwork, x: str) -> str:
    """[B, 1]: the logit."""
    for layer in (*network.layers, network.output):
        weight, bias = (graph.constant(_array(tensor)) for tensor in (layer.weight, layer.bias))
        x = graph.add("Gemm", x, weight, bias, transB=1)
        if layer is not network.output:
            x = graph.add("Relu", x)
    return x


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
