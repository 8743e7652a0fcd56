"""The SQL that ingestion sends to PostgreSQL, as text made from the spec and the table's real columns.

Instants arrive as two settings of the transaction, because a query with bound parameters cannot be
streamed by COPY (measured: 261 MB instead of 49 MB for a million rows): `SET_INTERVAL` binds them,
and the queries read them back.
"""

# ruff: noqa: S608 - every identifier is quoted and every value is bound
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Contract, Pipeline

Kind = Literal["string", "integer", "float", "boolean", "timestamp"]

SET_INTERVAL = "SELECT set_config('evergreen.since', $1, true), set_config('evergreen.until', $2, true)"
COLUMNS = """
    SELECT a.attname AS name, t.typname AS type, t.typtype = 'e' AS is_enum
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
    JOIN pg_catalog.pg_type t ON t.oid = CASE WHEN d.typtype = 'd' THEN d.typbasetype ELSE d.oid END
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""
"""Name and base type of each column of the table or view that is bound; no row when there is none."""

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("int2", "int4", "int8"), "integer"),
    **dict.fromkeys(("float4", "float8", "numeric"), "float"),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext", "uuid", "json", "jsonb", "inet"), "string"),
    **dict.fromkeys(("timestamptz", "timestamp", "date"), "timestamp"),
    "bool": "boolean",
}
ARROW: Mapping[Kind, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
}
CASTS: Mapping[Kind, str] = {"string": "text", "integer": "bigint", "float": "double precision", "boolean": "boolean"}


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """A table of the source as it really is."""

    name: str
    """As the spec has it, perhaps with a schema before a dot."""
    types: Mapping[str, str]
    """Column -> PostgreSQL's name of its base type; enums are text."""

    @property
    def quoted(self) -> str:
        return ".".join(quoted(part) for part in self.name.split("."))

    def kind(self, column: str) -> Kind:
        """How the column's values travel; ConfigurationError when it is missing or of a type that cannot."""
        if column not in self.types:
            raise ConfigurationError(
                f"Column {column} of table {self.name}",
                found=f"columns {', '.join(self.types)}",
                wanted="the column that the spec names",
                remedy="Correct the spec's contract or label, or add the column to the table.",
            )
        kind = KINDS.get(self.types[column])
        if kind is None:
            raise ConfigurationError(
                f"Column {column} of table {self.name}",
                found=f"type {self.types[column]}",
                wanted=f"one of {', '.join(sorted(KINDS))}",
                remedy="Leave the column out of the spec, or give the source a view that converts it.",
            )
        return kind

    def instant(self, column: str) -> str:
        """SQL of the column as timestamptz, infinity as null; ConfigurationError when it holds no instants.

        Times without a zone are taken for UTC.
        """
        if self.kind(column) != "timestamp":
            raise ConfigurationError(
                f"Column {column} of table {self.name}",
                found=f"type {self.types[column]}",
                wanted="timestamptz, timestamp or date",
                remedy="Name a column of instants in the spec, or give the source a view that converts it.",
            )
        finite = f"CASE WHEN isfinite({quoted(column)}) THEN {quoted(column)} END"
        return f"({finite})" if self.types[column] == "timestamptz" else f"({finite})::timestamp AT TIME ZONE 'UTC'"

    def value(self, column: str) -> str:
        """SQL of the column as the one type of its kind."""
        kind = self.kind(column)
        return self.instant(column) if kind == "timestamp" else f"{quoted(column)}::{CASTS[kind]}"

    def text(self, column: str) -> str:
        """SQL of the column as text, to the last digit; the numeric 12.00 is 12."""
        return f"trim_scale({quoted(column)})::text" if self.types[column] == "numeric" else f"{quoted(column)}::text"

    def key(self, column: str) -> str:
        """SQL of a column that names events: bigint if it holds integers, else text."""
        return self.value(column) if self.kind(column) == "integer" else self.text(column)


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query and the schema its rows are brought to."""

    sql: str
    count: str
    """A query that gives the number of its rows."""
    schema: pa.Schema


def events_query(pipeline: Pipeline, table: SourceTable) -> Query:
    """The interval's events in a total order, so that the same rows always come in the same sequence."""
    contract = pipeline.contract
    kinds = {name: _kind(contract, table, name) for name in contract.columns}
    selected = {name: table.text(name) if kind == "string" else table.value(name) for name, kind in kinds.items()}
    selected |= {"event_time": table.instant(contract.event_time), "known_at": table.instant(contract.known_at)}
    types = {name: ARROW[kind] for name, kind in kinds.items()}
    instants = dict.fromkeys(("event_time", "known_at"), ARROW["timestamp"])
    first = ("event_time", contract.key, "known_at")
    order = [*first, *(name for name in contract.columns if name != contract.key)]
    return _query(table, contract.event_time, selected, pa.schema(types | instants), order)


def labels_query(pipeline: Pipeline, table: SourceTable) -> Query:
    """The labels reported in the interval; values as they are, to be checked by the reader."""
    label = pipeline.label
    moment = table.instant(label.known_at)
    value = "1" if label.value is None else f"{quoted(label.value)}::{_label_cast(table, label.value)}"
    selected = {"key": _label_key(pipeline, table), "value": value}
    selected |= {"event_time": moment, "known_at": moment}
    schema = pa.schema(
        {"key": pa.string(), "value": pa.int8(), "event_time": ARROW["timestamp"], "known_at": ARROW["timestamp"]}
    )
    return _query(table, label.known_at, selected, schema, ["event_time", "key", "value"])


def freshness_query(pipeline: Pipeline, table: SourceTable) -> str:
    """Query of day, rows and latest known_at for each day of the interval."""
    moment, known_at = table.instant(pipeline.contract.event_time), table.instant(pipeline.contract.known_at)
    return (
        f"SELECT ({moment} AT TIME ZONE 'UTC')::date AS day, count(*) AS rows, max({known_at}) AS known_at "
        f"FROM {table.quoted} WHERE {_within(pipeline.contract.event_time)} GROUP BY 1 ORDER BY 1"
    )


def quoted(identifier: str) -> str:
    """The identifier as PostgreSQL takes it literally."""
    return '"' + identifier.replace('"', '""') + '"'


def _query(table: SourceTable, time: str, selected: Mapping[str, str], schema: pa.Schema, order: list[str]) -> Query:
    columns = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in selected.items())
    inner = f"SELECT {columns} FROM {table.quoted} WHERE {_within(time)}"
    # The C collation sorts text the same on every server, and faster than a language's.
    keys = [f'{quoted(n)} COLLATE "C"' if schema.field(n).type == pa.string() else quoted(n) for n in order]
    return Query(
        sql=f"SELECT * FROM ({inner}) AS rows ORDER BY {', '.join(keys)}",
        count=f"SELECT count(*) FROM {table.quoted} WHERE {_within(time)}",
        schema=schema,
    )


def _within(column: str) -> str:
    since, until = (f"current_setting('evergreen.{end}')::timestamptz" for end in ("since", "until"))
    return f"{quoted(column)} >= {since} AND {quoted(column)} < {until}"


def _kind(contract: Contract, table: SourceTable, column: str) -> Kind:
    """How a column of the contract travels: as text where a double would write the id 12 as 12.0, or lose its digits.

    An integer of the contract that the source has as a double is that double: text writes it 1e+15.
    """
    kind, wanted = table.kind(column), contract.columns[column].type
    if column == contract.key:
        return kind if kind == "integer" else "string"
    if kind == "float" and (wanted == "string" or (wanted == "integer" and table.types[column] == "numeric")):
        return "string"
    return kind


def _label_key(pipeline: Pipeline, table: SourceTable) -> str:
    """SQL of the label's key as text, in the form that the event's key gets: the text `012` is the integer 12."""
    text = f"({table.key(pipeline.label.key)})::text"
    if pipeline.contract.columns[pipeline.contract.key].type == "string":
        return text
    return f"CASE WHEN {text} ~ '^ *[+-]?[0-9]+ *$' THEN {text}::numeric::text ELSE {text} END"


def _label_cast(table: SourceTable, column: str) -> str:
    kind = table.kind(column)
    if kind not in ("boolean", "integer"):
        raise ConfigurationError(
            f"Label column {column} of table {table.name}",
            found=f"type {table.types[column]}",
            wanted="a boolean or an integer that is 0 or 1",
            remedy="Name another column in label.value, or give the source a view that converts it.",
        )
    return "int" if kind == "boolean" else "bigint"
