"""The spec's expectations as a Great Expectations suite, and what that suite says of a day's rows.

Great Expectations is imported inside the functions: it costs 3 to 8 CPU seconds, once a process.
"""

from __future__ import annotations

import importlib
import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.errors import ConfigurationError
from evergreen.pipeline import ColumnSpec, Contract, Pipeline
from evergreen.validation.casts import cast
from evergreen.validation.cleaning import TIMES

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.datasource.fluent.interfaces import Batch

logger = logging.getLogger(__name__)

POSITION = "evergreen_position"
"""Key of an expectation's meta that says where in the spec it stands; GX returns results in another order."""
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
SEVERAL_COLUMNS = ("column_A", "column_list")
"""Fields of the expectations that hold columns of a row against one another."""
MASK = "•••"
"""Stands for values of the column that names a person."""
NUMBERS = re.compile(r"^(element|unexpected|missing)_(count|percent(_total|_nonmissing)?)$")
"""Parts of GX's result that count values and never quote them."""
OBSERVED_CHARACTERS = 100
RESULT_FORMAT = {
    "result_format": "COMPLETE",
    # The rows themselves go to quarantine; values here would only be large, and may be personal.
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What Great Expectations found for one expectation."""

    expectation: str
    """Class name."""
    columns: tuple[str, ...]
    """Columns it speaks of; none when it is about the table."""
    arguments: Mapping[str, object]
    """As in the spec; dates and times as text."""
    success: bool
    """GX's own word."""
    unexpected: npt.NDArray[np.int64] | None
    """Positions of the rows it does not hold for; None unless it judges rows one by one."""
    result: Mapping[str, Any]
    """GX's result: observed_value, or element_count, unexpected_count and so on; the subject's values masked."""
    raised: str | None = None
    """What GX raised instead of judging; then success is False."""

    @property
    def reason(self) -> str:
        """`columns: expectation`, as rows in quarantine carry it."""
        return f"{', '.join(self.columns) or 'table'}: {self.expectation}"

    @property
    def judges_rows(self) -> bool:
        """Whether rows that fail go to quarantine; one with `mostly` speaks of the batch, and stops the day."""
        return self.unexpected is not None and self.arguments.get("mostly", 1) == 1

    @property
    def problem(self) -> str | None:
        """Why the whole day cannot pass, in plain words; None when it can."""
        if self.raised is not None:
            return f"{self.reason} could not be evaluated: {self.raised}"
        counted = self.result.get("unexpected_count")
        if self.unexpected is not None and counted != len(self.unexpected):
            return f"{self.reason} counts {counted} rows but names {len(self.unexpected)}"
        if self.success or self.judges_rows:
            return None
        seen = self.result.get("observed_value", self.result.get("unexpected_percent"))
        observed = "" if seen is None else f" (observed {str(seen)[:OBSERVED_CHARACTERS]})"
        return f"{self.reason} does not hold{observed}"


def build_suite(pipeline: Pipeline) -> ExpectationSuite:
    """The suite of the spec's expectations; ConfigurationError on an unknown name or bad arguments."""
    _import_quietly()
    from great_expectations import ExpectationSuite

    suite = ExpectationSuite(name=pipeline.pipeline)
    for position, entry in enumerate(pipeline.validation.expectations):
        ((name, arguments),) = entry.items()
        expectation = _expectation(pipeline.pipeline, name, _with_instants(pipeline.contract, arguments))
        expectation.meta = {**(expectation.meta or {}), POSITION: position}
        suite.expectations.append(expectation)
    return suite


def evaluate(pipeline: Pipeline, rows: pl.DataFrame) -> list[Outcome]:
    """The outcome of each of the spec's expectations on the rows, in the spec's order.

    An expectation that GX could not evaluate is an outcome too, with `raised`. Raises ConfigurationError
    as `build_suite` does.
    """
    if not pipeline.validation.expectations:
        return []
    results = _results(build_suite(pipeline), rows)
    entries = pipeline.validation.expectations
    by_position = {result.expectation_config.meta[POSITION]: result for result in results}
    subject = pipeline.contract.subject
    return [_outcome(entry, by_position[position], subject) for position, entry in enumerate(entries)]


def _results(suite: ExpectationSuite, rows: pl.DataFrame) -> list[Any]:
    """GX's result for each expectation, in any order; those of several columns see `_comparable` columns."""
    from great_expectations import ExpectationSuite

    parts = {frame: ExpectationSuite(name=suite.name) for frame in (_nullable, _comparable)}
    for expectation in suite.expectations:
        several = any(hasattr(expectation, field) for field in SEVERAL_COLUMNS)
        parts[_comparable if several else _nullable].expectations.append(expectation)
    return [
        result
        for frame, part in parts.items()
        if part.expectations
        for result in _batch(frame(rows)).validate(part, result_format=RESULT_FORMAT).results
    ]


def _import_quietly() -> None:
    """Nothing; GX is imported, without its hundred lines of log and its use of deprecated modules."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("great_expectations")
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)  # sets itself to info


def _expectation(pipeline: str, name: str, arguments: dict[str, object]) -> Any:
    from great_expectations import expectations

    known = [n for n in dir(expectations) if n.startswith("Expect") and n != "Expectation"]
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.5)) or "none is near"
        raise ConfigurationError(
            f"Expectation {name} of pipeline {pipeline}",
            found="a name that Great Expectations does not know",
            wanted=f"one of its expectations (nearest: {near})",
            remedy="Correct validation.expectations in the spec.",
        )
    try:
        return getattr(expectations, name)(**arguments)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"Expectation {name} of pipeline {pipeline}",
            found=f"arguments {arguments} ({_complaint(error)})",
            wanted="arguments that the expectation takes",
            remedy="Correct validation.expectations in the spec.",
        ) from error


def _with_instants(contract: Contract, arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments with every date and time as an instant in UTC, which is what timestamp columns compare with.

    Where all columns are timestamps, text is read as their values are.
    """
    timestamps = {*TIMES, *(name for name, spec in contract.columns.items() if spec.type == "timestamp")}
    columns = _columns(arguments)
    texts = bool(columns) and timestamps.issuperset(columns)
    return {name: _instant(value, texts=texts) for name, value in arguments.items()}


def _instant(value: object, *, texts: bool) -> object:
    match value:
        case datetime():
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        case date():
            return datetime.combine(value, time(), UTC)
        case str() if texts:
            read = pl.DataFrame({"text": [value]}).select(cast("text", pl.String(), ColumnSpec(type="timestamp")))
            return read.item() or value
        case list():
            return [_instant(item, texts=texts) for item in value]
        case dict():
            return {key: _instant(item, texts=texts) for key, item in value.items()}
    return value


def _complaint(error: Exception) -> str:
    """What pydantic minds, argument by argument."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix("__root__: ") for e in listed())


def _batch(frame: pd.DataFrame) -> Batch:
    """The frame as a GX batch in a context of its own: no files, no calls to the net, no progress bars."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("lake").add_dataframe_asset("day")
    return asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})


def _nullable(rows: pl.DataFrame) -> pd.DataFrame:
    """The rows in pandas; integers and booleans nullable, so that one null turns no column into floats."""
    import pandas as pd
    import pyarrow as pa

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = rows.to_arrow().to_pandas(types_mapper=nullable.get)
    return frame


def _comparable(rows: pl.DataFrame) -> pd.DataFrame:
    """The rows in pandas, where a comparison with null is false: beside a null, integers and booleans are objects."""
    frame: pd.DataFrame = rows.to_arrow().to_pandas(integer_object_nulls=True)
    return frame.fillna(np.nan)


def _outcome(entry: Mapping[str, dict[str, object]], result: Any, subject: str | None) -> Outcome:
    from great_expectations.util import convert_to_json_serializable

    ((name, arguments),) = entry.items()
    columns = _columns(arguments)
    raised = _raised(result.exception_info)
    positions = result.result.get("unexpected_index_list")
    if raised is not None:
        logger.warning("%s could not be evaluated: %s", name, raised)
    return Outcome(
        expectation=name,
        columns=columns,
        arguments=convert_to_json_serializable(arguments),
        success=bool(result.success) and raised is None,
        unexpected=None if positions is None else np.asarray(positions, np.int64),
        result=convert_to_json_serializable(_without_values(result.result, masked=subject in columns)),
        raised=raised,
    )


def _without_values(result: Mapping[str, Any], *, masked: bool) -> dict[str, Any]:
    """The result without its long list of rows, and with nothing that quotes values if `masked`."""
    kept = {key: value for key, value in result.items() if key != "unexpected_index_list"}
    return {key: MASK if masked and not NUMBERS.match(key) else value for key, value in kept.items()}


def _raised(info: Mapping[str, Any] | None) -> str | None:
    """The exceptions' messages; GX gives one record, or one for each metric that failed."""
    records = [info] if info and "raised_exception" in info else list((info or {}).values())
    messages = sorted({str(r["exception_message"]) for r in records if r["raised_exception"]})
    return "; ".join(messages) or None


def _columns(arguments: Mapping[str, object]) -> tuple[str, ...]:
    given = (arguments[name] for name in COLUMN_ARGUMENTS if name in arguments)
    return tuple(str(c) for value in given for c in (value if isinstance(value, list | tuple) else [value]))
