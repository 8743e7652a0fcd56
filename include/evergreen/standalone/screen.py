"""Shows a summary and the ways in on a terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from evergreen.pipeline import Pipeline
from evergreen.settings import Settings

EXAMPLES: dict[str, object] = {"string": "example", "integer": 1250, "float": 1.5, "boolean": False}


def show_status(console: Console, summary: dict[str, Any]) -> None:
    """One table a pipeline."""
    for name, one in summary["pipelines"].items():
        table = Table(title=name, show_header=False, title_justify="left")
        table.add_row("days, rows", f"{one['days']} days, {one['rows']:,} rows")
        table.add_row("quarantined", _counts(one["quarantined"]))
        table.add_row("champion", _champion(one["champion"]))
        table.add_row("serves", one["serving"]["version"] if one["serving"] else "nothing yet")
        table.add_row("drift", _sentence(one["drift"]))
        table.add_row("retrain", _sentence(one["retrain"]))
        console.print(table)


def show_ways_in(console: Console, settings: Settings, pipeline: Pipeline, password: str) -> None:
    """Where to look and what to paste."""
    console.print(f"Airflow      http://127.0.0.1:{settings.airflow_port}  (admin / {password})", highlight=False)
    console.print(f"Predictions  {settings.serving_url}/v1/{pipeline.pipeline}/predict", highlight=False)
    console.print("Try it:", highlight=False)
    console.print(curl_line(settings, pipeline), markup=False, highlight=False, soft_wrap=True)
    console.print("Everything keeps running. `make stop` ends it; `make demo` picks it up again.", highlight=False)


def curl_line(settings: Settings, pipeline: Pipeline) -> str:
    """A command that scores one example event when pasted."""
    row = json.dumps({"rows": [example_row(pipeline)]})
    url = f"{settings.serving_url}/v1/{pipeline.pipeline}/predict"
    return f"curl -s {url} -H 'content-type: application/json' -d '{row}'"


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
