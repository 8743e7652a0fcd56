"""One ONNX graph from raw feature columns to the score: encoders in front, the exported Keras network behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from evergreen.training.encoders import Encoders
from evergreen.training.scorer import Signature


def export_graph(probability: keras.Model, encoders: Encoders, signature: Signature, work: Path) -> ModelProto:
    """The graph that evergreen.training.scorer loads: `numeric` and `categorical` in, `score` out."""
    path = work / "network.onnx"
    probability.export(path, format="onnx", verbose=False)
    network = compose.add_prefix(onnx.load(path), "keras/")
    opset = next(o.version for o in network.opset_import if o.domain == "")
    front = _encoders(encoders, signature, opset, network.ir_version)
    joined = compose.merge_models(
        front,
        network,
        io_map=[(output.name, f"keras/{output.name}") for output in front.graph.output],
        outputs=[network.graph.output[0].name],
    )
    return _named(joined)


def score_graph(
    path: Path, numeric: npt.NDArray[np.float32], categorical: npt.NDArray[np.object_]
) -> npt.NDArray[np.float32]:
    """Scores [B] that the graph at `path` gives."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"numeric": numeric, "categorical": categorical}
    (scores,) = session.run(["score"], {name: rows for name, rows in given.items() if rows.shape[1]})
    return np.asarray(scores, np.float32)


def _encoders(encoders: Encoders, signature: Signature, opset: int, ir_version: int) -> ModelProto:
    """Numbers [B, F], target encodings last, and indices [B, E] of the categories; one of width 0 is left out."""
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def looked_up(column: str, kind: str, **table: Any) -> str:
        constants.append(numpy_helper.from_array(np.array([signature.categorical.index(column)]), f"at_{column}"))
        nodes.append(helper.make_node("Gather", ["categorical", f"at_{column}"], [f"text_{column}"], axis=1))
        nodes.append(
            helper.make_node("LabelEncoder", [f"text_{column}"], [f"{kind}_{column}"], domain="ai.onnx.ml", **table)
        )
        return f"{kind}_{column}"

    numbers = ["numeric"] if signature.numeric else []
    for t in encoders.targets:
        table = {"keys_strings": list(t.levels), "values_floats": list(t.log_odds), "default_float": 0.0}
        numbers.append(looked_up(t.column, "number", **table))
    indices = []
    for v in encoders.vocabularies:
        indices.append(looked_up(v.column, "index", **v.index_table))
    if numbers:
        nodes.append(helper.make_node("Concat", numbers, ["numbers"], axis=1))
    if indices:
        nodes.append(helper.make_node("Concat", indices, ["wide"], axis=1))
        nodes.append(helper.make_node("Cast", ["wide"], ["categories"], to=TensorProto.INT32))
    taken = _values(
        numeric=(TensorProto.FLOAT, len(signature.numeric)),
        categorical=(TensorProto.STRING, len(signature.categorical)),
    )
    width = len(signature.numeric) + len(encoders.targets)
    made = _values(numbers=(TensorProto.FLOAT, width), categories=(TensorProto.INT32, len(encoders.vocabularies)))
    graph = helper.make_graph(nodes, "encoders", taken, made, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def _values(**kinds: tuple[int, int]) -> list[ValueInfoProto]:
    """A matrix of each name's type and width; none for a width of 0."""
    return [helper.make_tensor_value_info(name, kind, ["B", n]) for name, (kind, n) in kinds.items() if n]


def _named(model: ModelProto) -> ModelProto:
    """`model` with its output called `score`, and nothing in it that differs from run to run."""
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Identity", [output.name], ["score"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"]))
    _rename(model.graph)
    model.graph.name, model.graph.doc_string, model.producer_name = "evergreen", "", "evergreen"
    onnx.checker.check_model(model)
    return model


def _rename(graph: GraphProto) -> None:
    """Names constants and values by their first use; the exporter's own names change from run to run."""
    constants = {constant.name: constant for constant in graph.initializer}
    used = dict.fromkeys(name for node in graph.node for name in node.input if name in constants)
    made = [name for node in graph.node for name in node.output if name != graph.output[0].name]
    names = {old: f"constant_{n}" for n, old in enumerate(used)} | {old: f"value_{n}" for n, old in enumerate(made)}
    for node in graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    ordered = [constants[old] for old in used]
    for old, constant in zip(used, ordered, strict=True):
        constant.name = names[old]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(ordered)
