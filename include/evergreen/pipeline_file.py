"""Reads a pipeline's YAML and says file, line, found and wanted when it will not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Pipeline

Location = tuple[int | str, ...]


def read_pipeline(path: Path) -> Pipeline:
    """The pipeline described by the YAML file at `path`, whose name must be `<pipeline>.yaml`.

    Raises ConfigurationError naming the file and line for anything the spec does not allow.
    """
    node = _compose(path)
    try:
        pipeline = Pipeline.model_validate(_construct(path, node))
    except ValidationError as refusal:
        raise _explain(path, node, refusal) from refusal
    if path.stem != pipeline.pipeline:
        raise _wrong(
            path, line_of(node, ("pipeline",)), f"pipeline: {pipeline.pipeline}", f"the file's own name, {path.stem}"
        )
    return pipeline


def pipeline_files(folder: Path) -> list[Path]:
    """The spec files in `folder`, by name."""
    return sorted(folder.glob("*.yaml"))


def read_pipelines(folder: Path) -> tuple[list[Pipeline], list[ConfigurationError]]:
    """The readable pipelines of `folder`, and one error for each that is not."""
    pipelines, errors = [], []
    for path in pipeline_files(folder):
        try:
            pipelines.append(read_pipeline(path))
        except ConfigurationError as error:
            errors.append(error)
    return pipelines, errors


def located(path: Path, at: Location, error: ConfigurationError) -> ConfigurationError:
    """What `error` says, with file and line of the part that the keys `at` lead to."""
    place = f"{path.name} line {line_of(_compose(path), at)}"
    return ConfigurationError(f"{place}: {error.thing}", found=error.found, wanted=error.wanted, remedy=error.remedy)


def _compose(path: Path) -> yaml.Node:
    text = _read(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _wrong(path, line, f"character {error.character!r}", "well-formed YAML") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _wrong(path, mark.line + 1 if mark else 1, str(error.problem), "well-formed YAML") from error
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, 1, "no mapping", "keys such as pipeline, source and contract")
    return node


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            str(path), found=str(error.strerror), wanted="a readable file", remedy="Check the path."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _wrong(path, line, f"bytes that are no UTF-8 ({error.reason})", "text in UTF-8") from error


def _construct(path: Path, node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        for part in _nodes(path, node, above=(), done=set()):
            if isinstance(part, yaml.MappingNode):
                _refuse_odd_keys(path, part)
            elif isinstance(part, yaml.ScalarNode):
                _construct_scalar(path, loader, part)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _wrong(path, mark.line + 1 if mark else 1, str(error.problem), "plain values") from error
    finally:
        loader.dispose()


def _construct_scalar(path: Path, loader: yaml.SafeLoader, scalar: yaml.ScalarNode) -> None:
    """Nothing, for a scalar that has a value; PyYAML itself raises a bare ValueError for 2026-13-45."""
    if scalar.tag == "tag:yaml.org,2002:merge":
        return
    try:
        loader.construct_object(scalar)
    except ValueError as error:
        line = scalar.start_mark.line + 1
        raise _wrong(path, line, f"{scalar.value} ({error})", "a value that exists") from error


def _nodes(path: Path, node: yaml.Node, *, above: tuple[yaml.Node, ...], done: set[int]) -> Iterator[yaml.Node]:
    """Every node below `node` and itself, once each however often aliases repeat it; a cycle is refused."""
    if any(node is ancestor for ancestor in above):
        raise _wrong(path, node.start_mark.line + 1, "a value that contains itself", "one that ends")
    if id(node) in done:
        return
    done.add(id(node))
    yield node
    for child in _children(node):
        yield from _nodes(path, child, above=(*above, node), done=done)


def _refuse_odd_keys(path: Path, node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _wrong(path, line, "a list or a mapping as a key", "a name")
        if key.value in seen:
            raise _wrong(path, line, f"{key.value} a second time", "each key once")
        seen.add(key.value)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _explain(path: Path, node: yaml.Node, refusal: ValidationError) -> ConfigurationError:
    errors = refusal.errors()
    sentences = [_sentence(node, error) for error in errors]
    return ConfigurationError(
        f"{path.name} line {line_of(node, _location(errors[0]))}",
        found="; ".join(sentences[:5]),
        wanted="what docs/pipeline-spec.md allows there",
        remedy="Correct the file; no other pipeline is affected.",
        details="\n".join(sentences),
    )


def _sentence(node: yaml.Node, error: ErrorDetails) -> str:
    where = ".".join(str(step) for step in error["loc"]) or "the spec"
    found = "an unknown key" if error["type"] == "extra_forbidden" else _said(error)
    if error["type"] not in ("extra_forbidden", "missing", "value_error"):
        found = f"{error['input']!r} ({error['msg'].lower()})"
    return f"line {line_of(node, _location(error))}, {where}: {found}"


def _location(error: ErrorDetails) -> Location:
    """Where the mistake is; a check across sections has no place of its own, but names it first."""
    return error["loc"] or tuple(_said(error).split(" ")[0].rstrip(":").split("."))


def _said(error: ErrorDetails) -> str:
    return error["msg"].removeprefix("Value error, ")


def line_of(node: yaml.Node, location: Location) -> int:
    """Line (from 1) of the deepest part of `location` that the file has."""
    line = node.start_mark.line
    for step in location:
        child = _child(node, step)
        if child is None:
            break
        line, node = child
    return line + 1


def _child(node: yaml.Node, step: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line, node.value[step]
    return None


def _wrong(path: Path, line: int, found: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path.name} line {line}",
        found=found,
        wanted=wanted,
        remedy="Correct the file; no other pipeline is affected.",
    )
