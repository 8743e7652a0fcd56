"""Results that need not be computed again: a step's receipt, found by everything that decides its result.

reuse/<pipeline>/<step>/<key>.json     path of the receipt that holds the result
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from evergreen.artifacts import Receipt
from evergreen.errors import DataError
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import verify_outputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """An earlier result and the receipt that proves it."""

    receipt: str
    artifacts: Mapping[str, object]
    """Artifact name -> its JSON."""


def result_key(**decides: object) -> str:
    """SHA-256 of everything that decides a result, whatever the order it is named in."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def find_result(lake: Lake, pipeline: str, step: str, key: str) -> Result | None:
    """The result of an earlier run under `key`, every output verified to the byte; None when there is none such."""
    path = _path(pipeline, step, key)
    if not lake.objects.exists(path):
        return None
    try:
        receipt_path: str = json.loads(lake.objects.get(path))["receipt"]
        receipt = Receipt.from_json(lake.objects.get(receipt_path))
        verify_outputs(lake, receipt)
    except (DataError, ValueError, KeyError) as error:
        logger.warning("Not reusing the earlier result at %s: %s", path, error)
        return None
    return Result(receipt=receipt_path, artifacts=receipt.result)


def remember_result(lake: Lake, pipeline: str, step: str, key: str, receipt: str) -> None:
    """Returns when a later run under `key` will find the receipt at `receipt`."""
    lake.objects.put(_path(pipeline, step, key), json.dumps({"receipt": receipt}).encode())


def _path(pipeline: str, step: str, key: str) -> str:
    return f"reuse/{pipeline}/{step}/{key}.json"
