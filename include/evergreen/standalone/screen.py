"""Shows a summary and the ways in on a terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evergreen.pipeline import Pipeline
from evergreen.settings import Settings
from evergreen.standalone.status import QUARANTINE_DAYS

EXAMPLES: dict[str, object] = {"string": "example", "integer": 1250, "float": 1.5, "boolean": False}


def show_status(console: Console, summary: dict[str, Any]) -> None:
    """One table a pipeline."""
    for name, one in summary["pipelines"].items():
        table = Table(title=name, show_header=False, title_justify="left")
        rows = {
            "days, rows": f"{one['days']} days, {one['rows']:,} rows",
            f"quarantined in {QUARANTINE_DAYS} days": _counts(one["quarantined"]),
            "champion": _champion(one["champion"]),
            "serves": one["serving"]["version"] if one["serving"] else "nothing yet",
            "drift": _sentence(one["drift"]),
            "retrain": _sentence(one["retrain"]),
        }
        for label, words in rows.items():
            table.add_row(label, Text(words))
        console.print(table)


def show_ways_in(console: Console, settings: Settings, pipeline: Pipeline, password: str) -> None:
    """Where to look and what to paste."""
    lines = (
        f"Airflow      http://127.0.0.1:{settings.airflow_port}  (admin / {password})",
        f"Predictions  {settings.serving_url}/v1/{pipeline.pipeline}/predict",
        "Try it:",
        curl_line(settings, pipeline),
        "Everything keeps running. `make stop` ends it; `make demo` picks it up again.",
    )
    for line in lines:
        console.out(line, highlight=False)


def curl_line(settings: Settings, pipeline: Pipeline) -> str:
    """A command that scores one example event when pasted; a token it takes from the shell's environment."""
    row = json.dumps({"rows": [example_row(pipeline)]})
    url = f"{settings.serving_url}/v1/{pipeline.pipeline}/predict"
    token = '-H "Authorization: Bearer $EVERGREEN_SERVING_TOKEN" ' if settings.serving_token else ""
    return f"curl -s {url} {token}-H 'content-type: application/json' -d '{row}'"


def example_row(pipeline: Pipeline) -> dict[str, object]:
    """A plausible event of the contract's types."""
    row = {
        name: pipeline.contract.columns[name].example or EXAMPLES.get(column.type, "2026-01-01T12:00:00Z")
        for name, column in pipeline.contract.columns.items()
    }
    return row | {"event_time": "2026-01-01T12:00:00Z"}


def _counts(counts: dict[str, int]) -> str:
    return "\n".join(f"{count:,}  {reason}" for reason, count in counts.items()) or "none"


def _champion(champion: dict[str, Any] | None) -> str:
    if champion is None:
        return "none"
    lines = [f"{champion['version']}"]
    lines += [f"{name} {m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})" for name, m in champion["metrics"].items()]
    if beat := champion["beat"]:
        gain = beat["average_precision"]
        interval = f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        lines.append(f"beat {beat['version']} on the same later days: average_precision {interval}")
    return "\n".join(lines)


def _sentence(one: dict[str, Any] | None) -> str:
    return f"{one['as_of']}: {one['reason']}" if one else "not looked at yet"
