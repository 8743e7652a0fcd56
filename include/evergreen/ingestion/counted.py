"""Holds a stream of rows to the number that its source counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pyarrow as pa

from evergreen.errors import DataError
from evergreen.ingestion.source import Extract

logger = logging.getLogger(__name__)


def counted(extract: Extract, thing: str) -> pa.RecordBatchReader:
    """The extract's batches; ends in DataError, before any commit, unless all counted rows came."""

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in extract.batches:
            rows += batch.num_rows
            logger.debug("%s: %d of %d rows", thing, rows, extract.rows)
            yield batch
        if rows != extract.rows:
            raise DataError(
                thing,
                found=f"{rows} rows in the stream",
                wanted=f"{extract.rows} rows, as the source counted in the same snapshot",
                remedy="Nothing was written; run the task again, and report it if it happens twice.",
            )

    return pa.RecordBatchReader.from_batches(extract.batches.schema, batches())
