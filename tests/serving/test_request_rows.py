"""Requests against the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import polars as pl
import pytest

from evergreen.pipeline import Pipeline
from evergreen.serving.refusal import Refused
from evergreen.serving.request_rows import RowDecoder

ROW = {
    "transaction_id": "t1",
    "card_id": "c1",
    "customer_id": "u1",
    "merchant_id": "m1",
    "amount_cents": 1250,
    "currency": "EUR",
    "mcc": " 5411 ",
    "merchant_country": "de",
    "card_country": "DE",
    "channel": "online",
    "device_id": None,
    "event_time": "2026-11-02T10:00:00+02:00",
}


@pytest.fixture
def decoder(fraud: Pipeline) -> RowDecoder:
    return RowDecoder(fraud, max_rows=3)


def body(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"rows": rows}).encode()


def refusal(decoder: RowDecoder, sent: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        decoder.decode(sent)
    return caught.value


def test_rows_come_out_in_contract_types_with_both_times(decoder: RowDecoder) -> None:
    rows = decoder.decode(body(ROW, {**ROW, "transaction_id": "t2", "device_id": "d"}))
    assert rows["transaction_id"].to_list() == ["t1", "t2"]
    assert rows["amount_cents"].dtype == pl.Int64
    assert rows["device_id"].to_list() == [None, "d"]
    eight = datetime(2026, 11, 2, 8, tzinfo=UTC)
    assert rows["event_time"].to_list() == rows["known_at"].to_list() == [eight, eight]
    assert rows["event_time"].dtype == rows["superseded_at"].dtype == pl.Datetime("us", "UTC")


def test_cleaning_rules_apply(decoder: RowDecoder) -> None:
    rows = decoder.decode(body(ROW))
    assert (rows["mcc"][0], rows["merchant_country"][0]) == ("5411", "DE")


@pytest.mark.parametrize("sent", [json.dumps(ROW).encode(), json.dumps({"rows": ROW}).encode()], ids=["bare", "rows"])
def test_a_single_row_needs_no_list(decoder: RowDecoder, sent: bytes) -> None:
    assert decoder.decode(sent).height == 1


def test_a_nullable_column_may_be_left_out(decoder: RowDecoder) -> None:
    row = {name: value for name, value in ROW.items() if name != "device_id"}
    assert decoder.decode(body(row))["device_id"].to_list() == [None]


@pytest.mark.parametrize(
    ("change", "field", "found", "wanted"),
    [
        ({"amount_cents": "12"}, "amount_cents", "str", "int"),
        ({"amount_cents": 2**70}, "amount_cents", "another value", "int"),
        ({"amount_cents": 1.5}, "amount_cents", "float", "int"),
        ({"card_id": None}, "card_id", "null", "str"),
        ({"colour": "red"}, "colour", "an unknown field", "only the contract's columns"),
        ({"event_time": "yesterday"}, "event_time", "Invalid RFC3339", "contract"),
        ({"event_time": "2026-11-02T10:00:00"}, "event_time", "another value", "timezone"),
        ({"event_time": "0001-01-01T00:00:00+05:00"}, "event_time", "another century", "1970"),
        ({"event_time": "9999-12-31T23:59:59-05:00"}, "event_time", "another century", "2200"),
    ],
)
def test_a_wrong_value_is_named(
    decoder: RowDecoder, change: dict[str, Any], field: str, found: str, wanted: str
) -> None:
    refused = refusal(decoder, body(ROW, ROW | change))
    assert (refused.status, refused.field, refused.row) == (HTTPStatus.UNPROCESSABLE_ENTITY, field, 1)
    assert found in refused.found
    assert wanted in refused.wanted


def test_a_missing_field_is_named(decoder: RowDecoder) -> None:
    row = {name: value for name, value in ROW.items() if name != "card_id"}
    refused = refusal(decoder, body(ROW, ROW, row))
    assert (refused.field, refused.row, refused.found) == ("card_id", 2, "nothing")


def test_text_that_cleaning_empties_is_missing(fraud: Pipeline) -> None:
    cleaning = fraud.cleaning.model_copy(update={"empty_is_null": ("mcc",)})
    decoder = RowDecoder(fraud.model_copy(update={"cleaning": cleaning}), max_rows=3)
    refused = refusal(decoder, body(ROW, ROW | {"mcc": "  "}))
    assert (refused.field, refused.row, refused.status) == ("mcc", 1, 422)


@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b"\xff\xfe", b'{"rows": [{"card_id": "\\ud800"}]}', b'{"a":' * 100_000],
    ids=["empty", "torn", "no UTF-8", "half a character", "nested too deeply"],
)
def test_what_is_not_json_is_a_bad_request(decoder: RowDecoder, sent: bytes) -> None:
    assert refusal(decoder, sent).status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("sent", [b"[]", b"3", b'{"rows": 3}', b'{"rows": [3]}', b'{"rows": []}', b"{}"])
def test_json_of_another_shape_is_unprocessable(decoder: RowDecoder, sent: bytes) -> None:
    assert refusal(decoder, sent).status == HTTPStatus.UNPROCESSABLE_ENTITY


def test_too_many_rows_are_too_large(decoder: RowDecoder) -> None:
    assert refusal(decoder, body(ROW, ROW, ROW, ROW)).status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
