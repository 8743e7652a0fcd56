"""Reads a pipeline's YAML and says file, line, found and wanted when it will not do."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

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
        raise _wrong(path, 1, f"pipeline: {pipeline.pipeline}", f"the file's own name, {path.stem}")
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


def _compose(path: Path) -> yaml.Node:
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigurationError(
            str(path), found=str(error.strerror), wanted="a readable file", remedy="Check the path."
        ) from error
    except (yaml.MarkedYAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise _wrong(path, mark.line + 1 if mark else 1, problem, "well-formed YAML") from error
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, 1, "no mapping", "keys such as pipeline, source and contract")
    return node


def _construct(path: Path, node: yaml.Node) -> object:
    _refuse_duplicates(path, node)
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_duplicates(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise _wrong(path, key.start_mark.line + 1, f"{key.value} a second time", "each key once")
            seen.add(key.value)
            _refuse_duplicates(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(path, child)


def _explain(path: Path, node: yaml.Node, refusal: ValidationError) -> ConfigurationError:
    sentences = []
    for error in refusal.errors():
        where = ".".join(str(step) for step in error["loc"]) or "the spec"
        found = "an unknown key" if error["type"] == "extra_forbidden" else error["msg"]
        if error["type"] not in ("extra_forbidden", "missing", "value_error"):
            found = f"{error['input']!r} ({error['msg'].lower()})"
        sentences.append(f"line {_line(node, error['loc'])}, {where}: {found}")
    first = refusal.errors()[0]
    return ConfigurationError(
        f"{path.name} line {_line(node, first['loc'])}",
        found="; ".join(sentences[:5]),
        wanted="what docs/pipeline-spec.md allows there",
        remedy="Correct the file; no other pipeline is affected.",
        details="\n".join(sentences),
    )


def _line(node: yaml.Node, location: Location) -> int:
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
