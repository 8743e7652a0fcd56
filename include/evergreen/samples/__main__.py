"""`python -m evergreen.samples URL FIRST LAST`: fill a PostgreSQL database with sample days."""

from datetime import UTC, datetime

import click

from evergreen.errors import EvergreenError
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.argument("url")
@click.argument("first", type=DAY)
@click.argument("last", type=DAY)
@click.option("--rows-per-day", default=20_000, show_default=True, help="Transactions on an average day.")
@click.option("--seed", default=7, show_default=True, help="Which world to simulate.")
@click.option("--shift-from", type=DAY, help="First day of changed behaviour; never by default.")
@click.option("--known-until", type=click.DateTime(), help="Write only what the source knew by then, in UTC.")
def main(
    url: str,
    first: datetime,
    last: datetime,
    *,
    rows_per_day: int,
    seed: int,
    shift_from: datetime | None,
    known_until: datetime | None,
) -> None:
    """Write card transactions and chargebacks of the days FIRST to LAST (YYYY-MM-DD) to the database at URL."""
    try:
        config = SampleConfig(
            seed=seed, rows_per_day=rows_per_day, shift_from=shift_from.date() if shift_from else None
        )
        write_days(
            url,
            config,
            first.date(),
            last.date(),
            known_until=known_until.replace(tzinfo=UTC) if known_until else None,
            on_progress=lambda day, rows: click.echo(f"{day}  {rows:,} rows"),
        )
    except EvergreenError as error:
        click.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
