"""PostgreSQL as a source: its URLs, its types, and one clear sentence for each thing that goes wrong."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from evergreen.errors import ConfigurationError, DataError, SourceUnavailable
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

DAY = date(2026, 11, 2)
MORNING = "2026-11-02 05:00:00+00"


def read(pipeline: Pipeline, url: str) -> pa.Table:
    with open_source(pipeline, url).read_day(DAY) as extract:
        return extract.batches.read_all()


def respecified(pipeline: Pipeline, **sections: dict[str, Any]) -> Pipeline:
    spec = pipeline.model_dump()
    for name, fields in sections.items():
        spec[name] |= fields
    return Pipeline.model_validate(spec)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres@/{name}?host={folder}",
        "postgresql+psycopg2://postgres@/{name}?host={folder}",
        "postgres://postgres@/{name}?host={folder}",
        "postgresql://postgres@/{name}?host={folder}&options=-c%20statement_timeout%3D60000",
        "postgres://postgres:unused@/{name}?host={folder}&__extra__=%7B%7D",
    ],
)
def test_urls_of_libpq_sqlalchemy_and_airflow_all_open(database, fraud: Pipeline, url: str) -> None:
    database.add("a", MORNING)
    assert read(fraud, url.format(name=database.name, folder=database.folder)).num_rows == 1


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "no url: secret", "postgresql://u:p@secret@h/d"])
def test_other_urls_are_refused_without_their_password(fraud: Pipeline, url: str) -> None:
    with pytest.raises(ConfigurationError, match="wanted postgresql://") as caught:
        open_source(fraud, url)
    assert "secret" not in str(caught.value)


def test_source_that_is_down_is_worth_a_retry(fraud: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=f"Source database shop at {tmp_path}: found no answer") as caught:
        read(fraud, f"postgresql://u:secret@/shop?host={tmp_path}")
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


@pytest.fixture
def locked(database, postgres: Any) -> str:
    """URL of a user who must give a password, and gives a wrong one."""
    hba = Path(postgres.pgdata) / "pg_hba.conf"
    if "locked" not in hba.read_text():
        hba.write_text("local all locked scram-sha-256\n" + hba.read_text())
    database.run("DROP ROLE IF EXISTS locked")
    database.run("CREATE ROLE locked LOGIN PASSWORD 'right'")
    database.run("SELECT pg_reload_conf()")
    return database.url_of("locked:wr%40ng-secret")


def test_wrong_password_is_a_mistake_of_the_connection(locked: str, fraud: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="found a wrong password or user") as caught:
        read(fraud, locked)
    shown = str(caught.value) + repr(caught.value.__cause__) + str(caught.value.details)
    assert "ng-secret" not in shown
    assert "ng-secret" not in repr(open_source(fraud, locked))


def test_database_that_does_not_exist_is_a_mistake_of_the_connection(database, fraud: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="found no such database or user"):
        read(fraud, database.url.replace("/source?", "/elsewhere?"))


def test_missing_table_is_named(database, fraud: Pipeline) -> None:
    database.run("DROP TABLE transactions")
    with pytest.raises(ConfigurationError, match=r"Table transactions of source at .*: found no such table or view"):
        read(fraud, database.url)


def test_missing_column_is_named_with_what_there_is(database, fraud: Pipeline) -> None:
    database.run("ALTER TABLE transactions DROP COLUMN mcc")
    with pytest.raises(ConfigurationError, match=r"Column mcc of table transactions: found columns transaction_id, .*"):
        read(fraud, database.url)


def test_missing_label_column_is_named_and_no_label_is_written(database, fraud: Pipeline, lake: Lake) -> None:
    database.add("a", MORNING)
    database.run("ALTER TABLE chargebacks DROP COLUMN reported_at")
    with pytest.raises(ConfigurationError, match="Column reported_at of table chargebacks"):
        ingest_day(fraud, open_source(fraud, database.url), DAY, lake)
    assert lake.table("labels", "fraud").day(DAY) is None


def test_column_of_a_type_that_cannot_travel_is_named(database, fraud: Pipeline) -> None:
    database.run("ALTER TABLE transactions ALTER COLUMN mcc TYPE bytea USING NULL")
    with pytest.raises(ConfigurationError, match="Column mcc of table transactions: found type bytea, wanted one of"):
        read(fraud, database.url)


def test_event_time_that_is_text_is_refused(database, fraud: Pipeline) -> None:
    database.run("ALTER TABLE transactions ALTER COLUMN event_time TYPE text")
    with pytest.raises(ConfigurationError, match=r"Column event_time .* found type text, wanted timestamptz"):
        read(fraud, database.url)


def test_number_too_large_for_the_lake_is_bad_data(database, fraud: Pipeline) -> None:
    database.add("a", MORNING)
    database.run("ALTER TABLE transactions ADD COLUMN risk numeric DEFAULT '1e400'")
    columns = fraud.model_dump()["contract"]["columns"] | {"risk": {"type": "float"}}
    with pytest.raises(DataError, match="out of range"):
        read(respecified(fraud, contract={"columns": columns}), database.url)


def test_table_that_may_not_be_read_says_what_to_grant(database, fraud: Pipeline) -> None:
    database.run("DROP ROLE IF EXISTS stranger")
    database.run("CREATE ROLE stranger LOGIN")
    with pytest.raises(ConfigurationError, match="GRANT SELECT ON transactions"):
        read(fraud, database.url_of("stranger"))


def test_types_keep_their_meaning(database, fraud: Pipeline) -> None:
    database.run("DROP TABLE transactions")
    database.run("CREATE TYPE way AS ENUM ('chip', 'online'); CREATE DOMAIN code AS varchar(4)")
    database.run(
        "CREATE TABLE transactions (transaction_id uuid, card_id char(6), customer_id int, merchant_id jsonb,"
        " amount_cents smallint, currency text, mcc code, merchant_country boolean, card_country numeric(9,2),"
        " channel way, device_id date, event_time timestamp, known_at timestamptz)"
    )
    database.run(
        "INSERT INTO transactions VALUES ('00000000-0000-0000-0000-000000000001', 'c', 7, '{}', 5, 'EUR', '5411', true,"
        " 1.25, 'chip', '2026-11-01', '2026-11-02 05:00', 'infinity')"
    )
    rows = read(fraud, database.url)
    row = rows.to_pylist()[0]
    assert row["transaction_id"] == "00000000-0000-0000-0000-000000000001"
    assert (row["customer_id"], row["amount_cents"], row["card_country"]) == (7, 5, "1.25")
    assert (row["card_id"], row["mcc"], row["channel"], row["merchant_country"]) == ("c", "5411", "chip", True)
    assert row["event_time"].isoformat() == "2026-11-02T05:00:00+00:00"
    assert row["device_id"].isoformat() == "2026-11-01T00:00:00+00:00"
    assert row["known_at"] is None
    assert rows.schema.field("amount_cents").type == pa.int64()
    assert rows.schema.field("card_country").type == pa.string()


def test_schema_and_odd_names_are_quoted(database, fraud: Pipeline) -> None:
    pipeline = respecified(fraud, source={"table": "Shop.Order"})
    database.run(
        'CREATE SCHEMA "Shop"; ALTER TABLE transactions RENAME TO "Order"; ALTER TABLE "Order" SET SCHEMA "Shop"'
    )
    assert read(pipeline, database.url).num_rows == 0


@pytest.mark.parametrize(("type", "yes", "no"), [("boolean", "true", "false"), ("smallint", "1", "0")])
def test_label_values_become_zero_and_one(database, fraud: Pipeline, lake: Lake, type: str, yes: str, no: str) -> None:
    pipeline = respecified(fraud, label={"value": "fraudulent"})
    database.add("a", MORNING)
    database.run(f"ALTER TABLE chargebacks ADD COLUMN fraudulent {type}")
    for key, value in (("a", yes), ("b", no)):
        database.run("INSERT INTO chargebacks VALUES (%(k)s, %(at)s, '', %(v)s)", k=key, at=MORNING, v=value)
    ingest_day(pipeline, open_source(pipeline, database.url), DAY, lake)
    labels = lake.table("labels", "fraud").read([DAY]).to_pydict()
    assert dict(zip(labels["key"], labels["value"], strict=True)) == {"a": 1, "b": 0}


@pytest.mark.parametrize("value", ["2", "300", None])
def test_label_that_is_neither_is_refused(database, fraud: Pipeline, lake: Lake, value: str | None) -> None:
    pipeline = respecified(fraud, label={"value": "fraudulent"})
    database.add("a", MORNING)
    database.run("ALTER TABLE chargebacks ADD COLUMN fraudulent int")
    database.run("INSERT INTO chargebacks VALUES ('a', %(at)s, '', %(v)s)", at=MORNING, v=value)
    with pytest.raises(DataError, match=r"Labels of 2026-11-02 .* found values \[.*\], wanted 0 or 1"):
        ingest_day(pipeline, open_source(pipeline, database.url), DAY, lake)
    assert lake.table("labels", "fraud").day(DAY) is None


MANY = """
    INSERT INTO transactions SELECT 'transaction-' || i, 'card-' || i %% 5000, 'customer', 'merchant', i, 'EUR', '5411',
        'DE', 'DE', 'chip', NULL, timestamptz '2026-11-02 00:00+00' + i * interval '80 microseconds',
        timestamptz '2026-11-02 12:00+00' FROM generate_series(1, %(rows)s) i
"""


def test_connection_lost_in_the_middle_leaves_the_old_day_whole(database, fraud: Pipeline, lake: Lake) -> None:
    source = open_source(fraud, database.url)
    database.add("a", MORNING)
    before = ingest_day(fraud, source, DAY, lake)
    database.run(MANY, rows=400_000)
    with source.read_day(DAY) as extract:
        next(extract.batches)
        database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'evergreen'")
        with pytest.raises(SourceUnavailable, match="lost in the middle of reading"):
            lake.table("raw", "fraud").replace_day(DAY, extract.batches)
    assert lake.table("raw", "fraud").day(DAY) == before.days[0]


PEAK = """
import sys
from datetime import date
from pathlib import Path
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake
from evergreen.pipeline_file import read_pipeline
pipeline = read_pipeline(Path(sys.argv[1]))
batch = ingest_day(pipeline, open_source(pipeline, sys.argv[2]), date(2026, 11, 2), Lake(sys.argv[3]))
status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of the test's process, if larger
print(batch.days[0].rows, int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_memory_does_not_grow_with_the_day_nor_with_what_was_overwritten(database, fraud: Pipeline, lake: Lake) -> None:
    spec = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "fraud.yaml"
    peaks = {}
    for rows in (300_000, 900_000):
        database.run("TRUNCATE transactions")
        database.run(MANY, rows=rows)
        command = [sys.executable, "-W", "ignore", "-c", PEAK, str(spec), database.url, f"{lake.url}-{rows}"]
        for versions in (1, 2):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            counted, peaks[rows, versions] = map(int, done.stdout.split())
            assert counted == versions * rows
            database.run("UPDATE transactions SET known_at = known_at + interval '1 day'")
    for versions in (1, 2):
        assert peaks[900_000, versions] < peaks[300_000, versions] + 60, peaks


FULL = """
import resource, sys
from datetime import date
from pathlib import Path
import signal
from evergreen.errors import LakeUnavailable
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake
from evergreen.pipeline_file import read_pipeline
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
pipeline = read_pipeline(Path(sys.argv[1]))
try:
    ingest_day(pipeline, open_source(pipeline, sys.argv[2]), date(2026, 11, 2), Lake(sys.argv[3]))
except LakeUnavailable as error:
    print(error)
"""


def test_disk_that_is_full_leaves_the_old_day_whole(database, fraud: Pipeline, lake: Lake) -> None:
    """A file size limit stands in for a full disk: the operating system refuses the write either way."""
    database.add("a", MORNING)
    before = ingest_day(fraud, open_source(fraud, database.url), DAY, lake)
    database.run(MANY, rows=50_000)
    spec = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "fraud.yaml"
    command = [sys.executable, "-W", "ignore", "-c", FULL, str(spec), database.url, lake.url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "wanted a lake that can be read and written" in done.stdout
    assert lake.table("raw", "fraud").day(DAY) == before.days[0]
    lake.table("raw", "fraud").verify(before.days[0])
    assert ingest_day(fraud, open_source(fraud, database.url), DAY, lake).days[0].rows == 50_001
