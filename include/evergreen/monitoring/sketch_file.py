"""Sketches as bytes: one Arrow IPC file, one row a column; equal sketches give equal bytes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from evergreen.monitoring.sketch import CategoricalSketch, ColumnSketch, NumericSketch, Sketch

FORMAT = b"evergreen sketch 1"
SCHEMA = pa.schema(
    [
        ("column", pa.string()),
        ("numeric", pa.bool_()),
        ("missing", pa.int64()),
        ("apart", pa.int64()),  # not-a-number of a numeric column, unlisted of a categorical one
        ("cells", pa.list_(pa.int32())),
        ("values", pa.list_(pa.string())),
        ("counts", pa.list_(pa.int64())),
    ],
    metadata={b"format": FORMAT},
)


def write_sketch(sketch: Sketch) -> bytes:
    """The bytes `read_sketch` understands, columns in order of name."""
    rows = [_row(name, sketch[name]) for name in sorted(sketch)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return bytes(sink.getvalue().to_pybytes())


def read_sketch(data: bytes) -> Sketch:
    """The sketch `write_sketch` wrote; pyarrow.ArrowInvalid on anything else."""
    with pa.ipc.open_file(pa.BufferReader(data)) as reader:
        table = reader.read_all().combine_chunks()
    if (table.schema.metadata or {}).get(b"format") != FORMAT:
        raise pa.ArrowInvalid(f"not written as {FORMAT.decode()}")
    return {str(name): _column(table, index) for index, name in enumerate(table["column"].to_pylist())}


def _row(name: str, part: ColumnSketch) -> dict[str, object]:
    numeric = isinstance(part, NumericSketch)
    return {
        "column": name,
        "numeric": numeric,
        "missing": part.missing,
        "apart": part.not_a_number if isinstance(part, NumericSketch) else part.rest,
        "cells": part.cells.astype(np.int32) if isinstance(part, NumericSketch) else [],
        "values": part.values.to_list() if isinstance(part, CategoricalSketch) else [],
        "counts": part.counts,
    }


def _column(table: pa.Table, index: int) -> ColumnSketch:
    missing, apart = table["missing"][index].as_py(), table["apart"][index].as_py()
    counts = table["counts"][index].values.to_numpy()
    if table["numeric"][index].as_py():
        cells = table["cells"][index].values.to_numpy().astype(np.int64)
        return NumericSketch(cells=cells, counts=counts, missing=missing, not_a_number=apart)
    values = pl.Series("value", pl.from_arrow(table["values"][index].values), dtype=pl.String)
    return CategoricalSketch(values=values, counts=counts, rest=apart, missing=missing)
