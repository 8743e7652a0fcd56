"""A pipeline's feature definitions, resolved: what is typed, in which order it is computed, what is refused.

`check_features` is for whoever reads a spec: it computes nothing and touches no data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter

from evergreen.errors import ConfigurationError
from evergreen.features.expressions import Node, Refused, names_in, parse
from evergreen.features.functions import Type
from evergreen.pipeline import Contract, Features, Pipeline, Window, duration

MEANING = 1
"""Raised when the same definition starts to give other values, so that old features become stale."""

WINDOW_TYPES: dict[str, Type] = {
    "count": "integer",
    "sum": "integer",
    "max": "integer",
    "mean": "float",
    "seconds_since_last": "float",
}
TAKEN = frozenset(
    {"event_time", "known_at", "superseded_at", "day", "key", "label", "prediction_id", "version", "score", "decision"}
)
"""Columns that feature tables, training sets or prediction logs have beside the features."""
AS_NUMBER: frozenset[Type] = frozenset({"integer", "float", "boolean"})
AS_CATEGORY: frozenset[Type] = frozenset({"string", "integer", "boolean"})


class FeatureMistake(ConfigurationError):
    """A feature of a spec cannot be computed; `at` says where in the spec, as the keys that lead there."""

    def __init__(self, thing: str, *, at: tuple[str, ...], **said: str) -> None:
        super().__init__(thing, **said)
        self.at = at


@dataclass(frozen=True, kw_only=True)
class Definitions:
    """Everything needed to compute a pipeline's features, and nothing that is not used."""

    key: str
    windows: Mapping[str, Window]
    layers: tuple[Mapping[str, Node], ...]
    """Expressions; each layer reads columns, windows and earlier layers only."""
    columns: tuple[str, ...]
    """Contract columns that are read, sorted; the key is among them."""
    history_columns: tuple[str, ...]
    """Contract columns that windows read, sorted."""
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


def check_features(pipeline: Pipeline) -> None:
    """Nothing, when every feature definition of `pipeline` can be computed.

    Raises FeatureMistake naming pipeline, feature, expression and position otherwise.
    """
    resolve(pipeline)


def definition_digest(pipeline: Pipeline) -> str:
    """SHA-256 of all that decides a feature's value beside the data."""
    parts = (str(MEANING), pipeline.contract.model_dump_json(), pipeline.features.model_dump_json())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def feature_digests(pipeline: Pipeline) -> dict[str, str]:
    """Feature -> SHA-256 of all that decides its value beside the data: whether two specs mean the same by its name.

    That is its kind and every expression, window and column type it rests on, however they are written.
    """
    features, parts = pipeline.features, _parts(pipeline)
    reads = {name: _reads(pipeline, name, text) for name, text in features.expressions.items()}
    reads |= {name: frozenset(_columns_of(window)) for name, window in features.windows.items()}
    kinds = dict.fromkeys(features.numeric, "numeric") | dict.fromkeys(features.categorical, "categorical")
    said = {
        name: [MEANING, kind, {part: parts[part] for part in _used((name,), reads)}] for name, kind in kinds.items()
    }
    return {name: hashlib.sha256(json.dumps(s, sort_keys=True).encode()).hexdigest() for name, s in said.items()}


def _parts(pipeline: Pipeline) -> dict[str, object]:
    """Every column, window and expression that features rest on, by name, as JSON can hold it."""
    windows = {
        name: [window.aggregate, window.of, window.by, duration(window.over).total_seconds()]
        for name, window in pipeline.features.windows.items()
    }
    nodes = {name: asdict(node) for layer in resolve(pipeline).layers for name, node in layer.items()}
    return {**_given_types(pipeline.contract, pipeline.features), **windows, **nodes}


def resolve(pipeline: Pipeline) -> Definitions:
    """The definitions of `pipeline`, typed and in order; FeatureMistake as `check_features` says."""
    features, contract = pipeline.features, pipeline.contract
    _require_free_names(pipeline)
    reads = {name: _reads(pipeline, name, text) for name, text in features.expressions.items()}
    order = _ordered(pipeline, reads)
    types = _given_types(contract, features)
    nodes: dict[str, Node] = {}
    for name in order:
        nodes[name] = _parsed(pipeline, name, types)
        types[name] = nodes[name].type
    _require_types(pipeline, "numeric", features.numeric, types, AS_NUMBER)
    _require_types(pipeline, "categorical", features.categorical, types, AS_CATEGORY)
    used = _used((*features.numeric, *features.categorical), reads)
    windows = {name: window for name, window in features.windows.items() if name in used}
    history = {column for window in windows.values() for column in _columns_of(window)}
    return Definitions(
        key=contract.key,
        windows=windows,
        layers=_layers([name for name in order if name in used], reads, nodes),
        columns=tuple(sorted((used & contract.columns.keys()) | history | {contract.key})),
        history_columns=tuple(sorted(history)),
        numeric=features.numeric,
        categorical=features.categorical,
    )


def _require_free_names(pipeline: Pipeline) -> None:
    features, columns = pipeline.features, pipeline.contract.columns.keys()
    for name in (*features.windows, *features.expressions):
        if name in columns or name in TAKEN:
            raise _wrong(pipeline, name, "the name of a column that exists already", "a name of its own")
    chosen = (*features.numeric, *features.categorical)
    for name in chosen:
        if name in TAKEN or name == pipeline.contract.key:
            raise _wrong(pipeline, name, "a name that tables of features need themselves", "an expression renaming it")
        if chosen.count(name) > 1:
            raise _wrong(pipeline, name, "the feature twice", "each feature once, numeric or categorical")


def _given_types(contract: Contract, features: Features) -> dict[str, Type]:
    columns: dict[str, Type] = {name: column.type for name, column in contract.columns.items()}
    windows = {name: WINDOW_TYPES[window.aggregate] for name, window in features.windows.items()}
    return columns | windows | {"event_time": "timestamp"}


def _reads(pipeline: Pipeline, name: str, text: str) -> frozenset[str]:
    try:
        return names_in(text)
    except Refused as refusal:
        raise _explained(pipeline, name, refusal) from refusal


def _ordered(pipeline: Pipeline, reads: Mapping[str, frozenset[str]]) -> list[str]:
    """Expressions, each after those it reads."""
    graph = {name: sorted(names & reads.keys()) for name, names in reads.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = error.args[1]
        raise _wrong(pipeline, circle[0], f"a circle: {' <- '.join(circle)}", "expressions that end") from error


def _parsed(pipeline: Pipeline, name: str, types: Mapping[str, Type]) -> Node:
    try:
        return parse(pipeline.features.expressions[name], types)
    except Refused as refusal:
        raise _explained(pipeline, name, refusal) from refusal


def _require_types(
    pipeline: Pipeline, kind: str, names: Iterable[str], types: Mapping[str, Type], allowed: frozenset[Type]
) -> None:
    for name in names:
        if types[name] not in allowed:
            raise _wrong(pipeline, name, f"a {kind} feature of type {types[name]}", " or ".join(sorted(allowed)))


def _used(chosen: Iterable[str], reads: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """`chosen` and everything they read, directly or not."""
    used: set[str] = set()
    ahead = list(chosen)
    while ahead:
        name = ahead.pop()
        if name not in used:
            used.add(name)
            ahead.extend(reads.get(name, ()))
    return frozenset(used)


def _layers(
    order: list[str], reads: Mapping[str, frozenset[str]], nodes: Mapping[str, Node]
) -> tuple[Mapping[str, Node], ...]:
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[read] for read in reads[name] if read in depth), default=-1)
    count = 1 + max(depth.values(), default=-1)
    return tuple({name: nodes[name] for name in order if depth[name] == layer} for layer in range(count))


def _columns_of(window: Window) -> tuple[str, ...]:
    return window.by if window.of is None else (*window.by, window.of)


def _explained(pipeline: Pipeline, name: str, refusal: Refused) -> FeatureMistake:
    text = pipeline.features.expressions[name]
    return FeatureMistake(
        f"Pipeline {pipeline.pipeline}, feature {name}, expression {text[:200]!r}, position {refusal.position}",
        at=("features", "expressions", name),
        found=refusal.found,
        wanted=refusal.wanted,
        remedy="Correct the expression under features.expressions.",
    )


def _wrong(pipeline: Pipeline, name: str, found: str, wanted: str) -> FeatureMistake:
    features, text = pipeline.features, pipeline.features.expressions.get(name)
    expression = f", expression {text[:200]!r}" if text else ""
    part = "expressions" if text else "windows" if name in features.windows else "numeric"
    return FeatureMistake(
        f"Pipeline {pipeline.pipeline}, feature {name}{expression}",
        at=("features", part, name),
        found=found,
        wanted=wanted,
        remedy="Correct the features section.",
    )
