"""A raw day becomes a clean one, its bad rows lie in quarantine with every reason, or the day is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import yaml

from evergreen.artifacts import CleanBatch, RawBatch
from evergreen.errors import ConfigurationError, NotFound, ValidationFailed
from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.simulator import simulate_day
from evergreen.validation.validate import validate_day

DAY = date(2026, 11, 2)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
Ingest = Callable[..., RawBatch]
Rows = Callable[..., pl.DataFrame]
Respecify = Callable[..., Pipeline]


def quarantined(lake: Lake, day: date = DAY) -> list[dict[str, object]]:
    return lake.table("quarantine", "fraud").read([day]).to_pylist()


def clean_rows(lake: Lake, day: date = DAY) -> pl.DataFrame:
    return pl.DataFrame(lake.table("clean", "fraud").read([day]))


def result(lake: Lake, day: date = DAY) -> dict:
    return json.loads(lake.objects.get(f"reports/fraud/validation/{day}.json"))


def page(lake: Lake, day: date = DAY) -> str:
    return lake.objects.get(f"reports/fraud/validation/{day}.html").decode()


def test_clean_day_passes_whole(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    batch = validate_day(small, ingest(raw_rows({}, {"mcc": " 5411 ", "card_country": "de"})), lake)
    assert [d.rows for d in batch.days] == [2]
    assert [d.rows for d in batch.quarantine] == [0]
    assert batch.quarantined == {}
    assert batch.cleaned["mcc: trim"] == 1
    assert batch.cleaned["card_country: upper"] == 1
    assert clean_rows(lake)["mcc"].to_list() == ["5411", "5411"]
    assert "<b>Passed.</b>" in page(lake)


@pytest.mark.parametrize(
    ("broken", "reasons"),
    [
        ({"merchant_id": None}, ["merchant_id: ExpectColumnValuesToNotBeNull"]),
        ({"amount_cents": -5}, ["amount_cents: ExpectColumnValuesToBeBetween"]),
        ({"currency": "???"}, ["currency: ExpectColumnValuesToBeInSet"]),
        ({"mcc": "abcd"}, ["mcc: ExpectColumnValuesToMatchRegex"]),
        ({"merchant_country": "DEU"}, ["merchant_country: ExpectColumnValueLengthsToEqual"]),
        ({"card_country": None}, ["card_country: missing"]),
        ({"transaction_id": None}, ["transaction_id: missing"]),
        ({"known_at": None}, ["known_at: missing"]),
        (
            {"merchant_id": None, "currency": "???", "channel": "fax", "card_country": None},
            [
                "card_country: missing",
                "channel: ExpectColumnValuesToBeInSet",
                "currency: ExpectColumnValuesToBeInSet",
                "merchant_id: ExpectColumnValuesToNotBeNull",
            ],
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_broken_row_is_quarantined_with_every_reason(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows, broken: dict, reasons: list[str]
) -> None:
    batch = validate_day(small, ingest(raw_rows({}, broken, {})), lake)
    assert [row["reasons"] for row in quarantined(lake)] == [reasons]
    assert batch.quarantined == dict.fromkeys(reasons, 1)
    assert clean_rows(lake)["transaction_id"].to_list() == ["t0", "t2"]


def test_row_shown_again_with_its_time_is_clean(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    batch = validate_day(small, ingest(raw_rows({"known_at": None}, {"transaction_id": "t0"})), lake)
    assert clean_rows(lake)["transaction_id"].to_list() == ["t0"]
    assert [row["reasons"] for row in quarantined(lake)] == [["known_at: missing"]]
    assert batch.cleaned["duplicates"] == 0


def test_value_of_the_wrong_type_is_quarantined_as_it_came(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    rows = raw_rows({}, {}).with_columns(amount_cents=pl.Series(["100", "ten"]))
    batch = validate_day(small, ingest(rows), lake)
    assert [(row["amount_cents"], row["reasons"]) for row in quarantined(lake)] == [
        ("ten", ["amount_cents: not an integer"])
    ]
    assert batch.cleaned["amount_cents: cast"] == 2
    assert clean_rows(lake)["amount_cents"].to_list() == [100]


def test_nothing_of_a_sample_day_is_lost(lake: Lake, fraud: Pipeline, ingest: Ingest) -> None:
    raw = simulate_day(SampleConfig(rows_per_day=5000), DAY).transactions
    batch = validate_day(fraud, ingest(raw), lake)
    duplicates = batch.cleaned["duplicates"]
    assert batch.days[0].rows + batch.quarantine[0].rows + duplicates == raw.height
    assert batch.quarantine[0].rows > 0
    assert duplicates > 0
    assert batch.cleaned["superseded"] > 0
    clean = clean_rows(lake)
    assert clean.sort("event_time", "transaction_id", "known_at").equals(clean)


def test_verdicts_equal_those_of_great_expectations(lake: Lake, fraud: Pipeline, ingest: Ingest) -> None:
    """GX asked again, one expectation a call on a frame built apart, counts what we counted and quarantined."""
    import great_expectations as gx
    import pandas as pd

    raw = simulate_day(SampleConfig(rows_per_day=5000), DAY).transactions
    batch = validate_day(fraud, ingest(raw), lake)
    judged = pd.concat(
        [
            clean_rows(lake).to_pandas(),
            pd.DataFrame(quarantined(lake)).astype({"amount_cents": "int64"}),
        ],
        ignore_index=True,
    )
    context = gx.get_context(mode="ephemeral")
    whole = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    again = whole.get_batch({"dataframe": judged})
    counts = {}
    for entry, ours in zip(fraud.validation.expectations, result(lake)["great_expectations"]["results"], strict=True):
        ((name, arguments),) = entry.items()
        theirs = again.validate(getattr(gx.expectations, name)(**arguments))
        assert ours["success"] == theirs.success
        assert ours["result"]["unexpected_count"] == theirs.result["unexpected_count"]
        if not theirs.success:
            counts[f"{arguments['column']}: {name}"] = theirs.result["unexpected_count"]
    assert batch.quarantined == counts


def test_same_day_again_gives_the_same_bytes_and_no_commit(lake: Lake, fraud: Pipeline, ingest: Ingest) -> None:
    raw = ingest(simulate_day(SampleConfig(rows_per_day=5000), DAY).transactions)
    first = validate_day(fraud, raw, lake)
    text = result(lake)
    assert validate_day(fraud, raw, lake) == first
    assert result(lake) == text


def refuse(pipeline: Pipeline, raw: RawBatch, lake: Lake) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        validate_day(pipeline, raw, lake)
    return caught.value


def test_day_of_bad_rows_is_refused_and_can_be_looked_at(
    lake: Lake, fraud: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    error = refuse(fraud, ingest(raw_rows(*[{"currency": "???"}] * 200)), lake)
    assert error.found.startswith("200 of 200 rows are bad (100.00%), more than max_bad_share 2.00%")
    assert "currency: ExpectColumnValuesToBeInSet: 200" in str(error)
    assert lake.table("clean", "fraud").day(DAY) is None
    assert len(quarantined(lake)) == 200
    assert result(lake)["passed"] is False
    assert "<b>Refused.</b>" in page(lake)


def test_refused_day_leaves_the_clean_day_of_before(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    before = validate_day(small, ingest(raw_rows({})), lake).days[0]
    refuse(small, ingest(raw_rows({"currency": "???"})), lake)
    lake.table("clean", "fraud").verify(before)


def test_refused_day_recovers_when_its_rows_are_mended(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    refuse(small, ingest(raw_rows({"currency": "???"})), lake)
    batch = validate_day(small, ingest(raw_rows({})), lake)
    assert batch.days[0].rows == 1
    assert quarantined(lake) == []


def test_too_few_rows_refuse_the_day(lake: Lake, fraud: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    assert refuse(fraud, ingest(raw_rows({}, {})), lake).found == "2 rows are fewer than min_rows 100"


def test_missing_column_refuses_the_day(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    error = refuse(small, ingest(raw_rows({}, {}).drop("device_id")), lake)
    assert error.found.startswith("column device_id is missing")
    assert quarantined(lake)[0]["reasons"] == ["device_id: column missing"]


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        (
            {"ExpectTableRowCountToBeBetween": {"min_value": 5}},
            "table: ExpectTableRowCountToBeBetween does not hold (observed 2)",
        ),
        (
            {"ExpectColumnMeanToBeBetween": {"column": "amount_cents", "max_value": 50}},
            "amount_cents: ExpectColumnMeanToBeBetween does not hold (observed 100.0)",
        ),
        (
            {"ExpectColumnToExist": {"column": "nowhere"}},
            "nowhere: ExpectColumnToExist does not hold",
        ),
        (
            {"ExpectColumnValuesToBeInSet": {"column": "channel", "value_set": ["atm"], "mostly": 0.5}},
            "channel: ExpectColumnValuesToBeInSet does not hold (observed 100.0)",
        ),
        (
            {"ExpectColumnDistinctValuesToBeInSet": {"column": "customer_id", "value_set": ["nobody"]}},
            "customer_id: ExpectColumnDistinctValuesToBeInSet does not hold (observed •••)",
        ),
    ],
    ids=["row count", "mean", "column exists", "mostly", "values of the subject"],
)
def test_expectation_about_the_batch_refuses_the_day(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows, expectation: dict, problem: str
) -> None:
    pipeline = respecified(fraud, validation={"expectations": [expectation], "min_rows": 1})
    assert refuse(pipeline, ingest(raw_rows({}, {})), lake).found == problem
    assert result(lake)["problems"] == [problem]
    assert "'customer'" not in page(lake)
    assert '"customer"' not in json.dumps(result(lake))


def test_mostly_that_holds_leaves_its_rows_alone(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows
) -> None:
    expectation = {"ExpectColumnValuesToBeInSet": {"column": "channel", "value_set": ["chip"], "mostly": 0.5}}
    pipeline = respecified(fraud, validation={"expectations": [expectation], "min_rows": 1})
    assert validate_day(pipeline, ingest(raw_rows({}, {"channel": "fax"})), lake).days[0].rows == 2


@pytest.mark.parametrize(
    "expectation",
    [
        {"ExpectColumnMeanToBeBetween": {"column": "currency", "max_value": 50}},
        {"ExpectColumnValuesToBeBetween": {"column": "nowhere", "max_value": 50}},
        {"ExpectColumnValuesToMatchRegex": {"column": "mcc", "regex": "("}},
    ],
    ids=["mean of text", "column that is not there", "broken regex"],
)
def test_expectation_that_raises_is_no_pass(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows, expectation: dict
) -> None:
    pipeline = respecified(fraud, validation={"expectations": [expectation], "min_rows": 1})
    error = refuse(pipeline, ingest(raw_rows({}, {})), lake)
    ((name, arguments),) = expectation.items()
    assert error.found.startswith(f"{arguments['column']}: {name} could not be evaluated: ")
    assert "Traceback" not in str(error)
    assert lake.table("clean", "fraud").day(DAY) is None


def extended(respecified: Respecify, fraud: Pipeline, types: dict[str, str], *expectations: dict) -> Pipeline:
    """The pipeline with more columns, all nullable, and these expectations alone; a day may be bad as a whole."""
    columns = {name: spec.model_dump() for name, spec in fraud.contract.columns.items()}
    columns |= {name: {"type": kind, "nullable": True} for name, kind in types.items()}
    validation = {"expectations": expectations, "max_bad_share": 1, "min_rows": 1}
    return respecified(fraud, contract={"columns": columns}, validation=validation)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("{ExpectColumnValuesToBeBetween: {column: born, min_value: 2020-01-02T00:00:00Z}}", "bc"),
        ("{ExpectColumnValuesToBeBetween: {column: born, min_value: 2020-01-02 00:00:00}}", "bc"),
        ("{ExpectColumnValuesToBeBetween: {column: born, min_value: 2020-01-02}}", "bc"),
        ("{ExpectColumnValuesToBeBetween: {column: born, max_value: '2020-01-02'}}", "ab"),
        ("{ExpectColumnValuesToBeBetween: {column: born, max_value: '2020-01-02T01:00:00+01:00'}}", "ab"),
        ("{ExpectColumnValuesToBeBetween: {column: event_time, min_value: '2026-11-02'}}", "abc"),
        ("{ExpectColumnValuesToBeInSet: {column: born, value_set: [2020-01-01, '2020-01-02', null]}}", "ab"),
        ("{ExpectColumnValuesToBeInSet: {column: note, value_set: ['2020-01-01', '2020-01-03']}}", "ac"),
        ("{ExpectColumnMaxToBeBetween: {column: born, max_value: 2020-01-03}}", "abc"),
        (
            "{ExpectColumnQuantileValuesToBeBetween: {column: born, quantile_ranges: "
            "{quantiles: [0.5], value_ranges: [[2020-01-02, null]]}}}",
            "abc",
        ),
    ],
)
def test_dates_and_times_in_expectations_are_instants(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows, text: str, kept: str
) -> None:
    pipeline = extended(respecified, fraud, {"born": "timestamp", "note": "string"}, yaml.safe_load(text))
    days = [f"2020-01-0{n}" for n in (1, 2, 3)]
    rows = raw_rows(*({"transaction_id": k, "born": d, "note": d} for k, d in zip("abc", days, strict=True)))
    validate_day(pipeline, ingest(rows), lake)
    assert "".join(clean_rows(lake)["transaction_id"]) == kept
    assert result(lake)["passed"]
    assert "datetime" not in page(lake)


GREATER = {"ExpectColumnPairValuesAToBeGreaterThanB": {"column_A": "a", "column_B": "b", "or_equal": True}}
EQUAL = {"ExpectColumnPairValuesToBeEqual": {"column_A": "a", "column_B": "b"}}
SUM = {"ExpectMulticolumnSumToEqual": {"column_list": ["a", "b"], "sum_total": 3}}
UNIQUE = {"ExpectCompoundColumnsToBeUnique": {"column_list": ["a", "b"]}}
LARGE = 2**53


@pytest.mark.parametrize(
    ("expectation", "pairs", "bad"),
    [
        (GREATER, [(2, 1), (1, 2), (LARGE, LARGE + 1)], [1, 2]),
        (GREATER, [(2, 1), (1, None), (None, None), (LARGE, LARGE + 1)], [1, 3]),
        (EQUAL, [(1, 1), (LARGE, LARGE + 1)], [1]),
        (EQUAL, [(1, 1), (None, 1), (None, None), (LARGE, LARGE + 1)], [1, 3]),
        (SUM, [(1, 2), (2, 2), (3 - LARGE, LARGE), (3 - LARGE, LARGE + 1)], [1, 3]),
        (SUM, [(1, 2), (2, 2), (3 - LARGE, LARGE), (3 - LARGE, LARGE + 1), (3, None), (None, None)], [1, 3, 4]),
        (UNIQUE, [(1, LARGE), (1, LARGE + 1), (1, 2), (1, 2)], [2, 3]),
        (UNIQUE, [(1, LARGE), (1, LARGE + 1), (1, None), (1, None), (None, None), (None, None)], [2, 3]),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_expectation_of_several_columns_judges_rows_to_the_last_digit_also_beside_nulls(
    lake: Lake,
    fraud: Pipeline,
    respecified: Respecify,
    ingest: Ingest,
    raw_rows: Rows,
    expectation: dict,
    pairs: list,
    bad: list[int],
    alone: bool,
) -> None:
    of_one = {"ExpectColumnMaxToBeBetween": {"column": "a", "max_value": LARGE}}
    expectations = [expectation] if alone else [of_one, expectation, of_one]
    pipeline = extended(respecified, fraud, dict.fromkeys("ab", "integer"), *expectations)
    rows = raw_rows(*({} for _ in pairs)).with_columns(
        pl.Series(name, values, pl.Int64) for name, values in zip("ab", zip(*pairs, strict=True), strict=True)
    )
    validate_day(pipeline, ingest(rows), lake)
    assert [row["transaction_id"] for row in quarantined(lake)] == [f"t{number}" for number in bad]


def test_null_in_a_boolean_column_is_equal_to_nothing(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows
) -> None:
    pipeline = extended(respecified, fraud, dict.fromkeys("ab", "boolean"), EQUAL)
    rows = raw_rows({"a": True, "b": True}, {"a": None, "b": True}, {"a": None, "b": None}, {"a": True, "b": False})
    validate_day(pipeline, ingest(rows), lake)
    assert [row["transaction_id"] for row in quarantined(lake)] == ["t1", "t3"]


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ({"ExpectColumnValuesNotNull": {"column": "mcc"}}, "nearest: .*ExpectColumnValuesToNotBeNull"),
        ({"ExpectColumnValuesToBeBetween": {"column": "amount_cents", "minimum": 1}}, "minimum: extra fields"),
        ({"ExpectColumnValuesToNotBeNull": {}}, "column: field required"),
    ],
    ids=["unknown name", "unknown argument", "argument left out"],
)
def test_what_is_no_expectation_is_a_mistake_of_the_spec(
    lake: Lake, fraud: Pipeline, respecified: Respecify, ingest: Ingest, raw_rows: Rows, expectation: dict, message: str
) -> None:
    pipeline = respecified(fraud, validation={"expectations": [expectation]})
    with pytest.raises(ConfigurationError, match=message):
        validate_day(pipeline, ingest(raw_rows({})), lake)
    assert lake.table("quarantine", "fraud").day(DAY) is None


def read(lake: Lake, as_of: datetime) -> list[tuple[str, int]]:
    reader = lake.read("clean", "fraud", as_of=as_of, until=end_of(DAY), since=start_of(DAY))
    return [(row["transaction_id"], row["amount_cents"]) for row in reader.read_all().to_pylist()]


def test_history_shows_what_was_known_before_and_after_a_correction(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    rows = raw_rows(
        {"transaction_id": "a", "amount_cents": 10, "after": 1},
        {"transaction_id": "a", "amount_cents": 7, "after": 60},
        {"transaction_id": "a", "amount_cents": 7, "after": 90},
        {"transaction_id": "b", "amount_cents": 5, "after": 2},
    )
    batch = validate_day(small, ingest(rows), lake)
    assert (batch.cleaned["superseded"], batch.cleaned["duplicates"]) == (1, 1)
    assert read(lake, NOON) == []
    assert read(lake, NOON + timedelta(seconds=59)) == [("a", 10), ("b", 5)]
    assert read(lake, NOON + timedelta(seconds=60)) == [("a", 7), ("b", 5)]
    assert read(lake, NOON + timedelta(days=9)) == [("a", 7), ("b", 5)]


def test_broken_correction_does_not_supersede_the_sound_row(
    lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows
) -> None:
    rows = raw_rows(
        {"transaction_id": "a", "amount_cents": 10, "after": 1},
        {"transaction_id": "a", "amount_cents": -7, "after": 60},
    )
    validate_day(small, ingest(rows), lake)
    assert read(lake, NOON + timedelta(days=9)) == [("a", 10)]


def test_days_read_again_are_validated_too(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    before = DAY - timedelta(days=1)
    late = raw_rows({"transaction_id": "x"}, {"transaction_id": "late", "currency": "???"}, day=before)
    batch = validate_day(small, ingest(raw_rows({}), late, days=(DAY, before)), lake)
    assert [d.day for d in batch.days] == [d.day for d in batch.quarantine] == [DAY, before]
    assert batch.quarantined == {}
    assert clean_rows(lake, before)["transaction_id"].to_list() == ["x"]
    assert len(quarantined(lake, before)) == 1


def test_raw_day_that_is_not_there_is_said_plainly(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    raw = ingest(raw_rows({}))
    gone = raw.days[0].model_copy(update={"day": DAY + timedelta(days=1)})
    with pytest.raises(NotFound):
        validate_day(small, raw.model_copy(update={"days": (gone,)}), lake)


def test_page_hides_the_person_and_escapes_values(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    rows = raw_rows({}, {"customer_id": "Jane Doe", "mcc": "<script>alert(1)</script>"})
    batch = validate_day(small, ingest(rows), lake)
    html = page(lake)
    assert "Jane Doe" not in html + json.dumps(result(lake))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "http" not in html.replace('lang="en"', "")
    assert quarantined(lake)[0]["customer_id"] == "Jane Doe"
    assert lake.objects.digest(batch.report.path) == batch.report.digest


def test_artifact_survives_json(lake: Lake, small: Pipeline, ingest: Ingest, raw_rows: Rows) -> None:
    batch = validate_day(small, ingest(raw_rows({})), lake)
    assert CleanBatch.from_json(batch.to_json()) == batch
