"""Definitions that cannot be computed are refused when the spec is read, by pipeline, feature and position."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evergreen.errors import ConfigurationError
from evergreen.features.definitions import check_features, definition_digest, resolve
from evergreen.pipeline import ColumnSpec, Features, Pipeline, Window


def _with(fraud: Pipeline, **features: object) -> Pipeline:
    return fraud.model_copy(update={"features": Features.model_validate({"numeric": ("f",), **features})})


def test_shipped_definitions_are_right(fraud: Pipeline) -> None:
    check_features(fraud)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"expressions": {"f": "amount_cents + nothing"}}, "feature f, .*position 16: found unknown name 'nothing'"),
        ({"expressions": {"f": "g + 1", "g": "h", "h": "f"}}, "found a circle: "),
        ({"expressions": {"f": "f + 1"}}, "found a circle: f <- f"),
        ({"expressions": {"f": "amount_cents +"}}, "feature f, .*position 15: found invalid syntax"),
        ({"expressions": {"f": "known_at - event_time"}}, "unknown name 'known_at'"),
        ({"expressions": {"f": "upper(channel)"}}, "a numeric feature of type string"),
        ({"expressions": {"f": "event_time"}}, "a numeric feature of type timestamp"),
        ({"numeric": ("channel",)}, "a numeric feature of type string"),
        ({"expressions": {"f": "1.5"}, "numeric": (), "categorical": ("f",)}, "a categorical feature of type float"),
        ({"numeric": ("amount_cents", "amount_cents")}, "the feature twice"),
        ({"numeric": ("amount_cents",), "categorical": ("amount_cents",)}, "the feature twice"),
        ({"expressions": {"channel": "1"}, "numeric": ("channel",)}, "name of a column that exists already"),
        ({"expressions": {"label": "1"}, "numeric": ("label",)}, "name of a column that exists already"),
        ({"numeric": (), "categorical": ("transaction_id",)}, "a name that tables of features need"),
    ],
)
def test_impossible_definition_is_refused(fraud: Pipeline, features: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        check_features(_with(fraud, **features))
    assert "Pipeline fraud, feature " in str(error.value)


@pytest.mark.parametrize("text", ["amount_cents // 100", "channel", "channel == 'atm'"], ids=["int", "str", "bool"])
def test_whole_numbers_texts_and_truths_are_categories(fraud: Pipeline, text: str) -> None:
    check_features(_with(fraud, expressions={"f": text}, numeric=(), categorical=("f",)))


def test_expressions_are_layered_whatever_their_order_in_the_file(fraud: Pipeline) -> None:
    definitions = resolve(_with(fraud, expressions={"f": "g + h", "g": "h * 2", "h": "amount_cents", "idle": "1"}))
    assert [set(layer) for layer in definitions.layers] == [{"h"}, {"g"}, {"f"}]


def test_only_what_features_use_is_read(fraud: Pipeline) -> None:
    windows = {
        "used": Window(by=("card_id",), over="1h", aggregate="count"),
        "idle": Window(by=("merchant_id",), over="1h", aggregate="sum", of="amount_cents"),
    }
    definitions = resolve(_with(fraud, windows=windows, expressions={"f": "used + 1"}))
    assert set(definitions.windows) == {"used"}
    assert definitions.history_columns == ("card_id",)
    assert definitions.columns == ("card_id", "transaction_id")


def test_digest_follows_features_and_contract_only(fraud: Pipeline) -> None:
    digest = definition_digest(fraud)
    contract = fraud.contract.model_copy(
        update={"columns": {**fraud.contract.columns, "fee": ColumnSpec(type="integer", nullable=True)}}
    )
    assert definition_digest(fraud.model_copy(update={"owner": "others"})) == digest
    assert definition_digest(fraud.model_copy(update={"contract": contract})) != digest


def test_checking_a_spec_loads_no_compiler_and_no_lake() -> None:
    code = "import sys, evergreen.features.definitions; print([m for m in ('numba','deltalake') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
