"""Definitions that cannot be computed are refused when the spec is read, by pipeline, feature and position."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from evergreen.errors import ConfigurationError
from evergreen.features.definitions import check_features, definition_digest, feature_digests, resolve
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


RATIO: dict[str, Any] = {
    "windows": {
        "mean_1d": {"by": ["card_id"], "over": "1d", "aggregate": "mean", "of": "amount_cents"},
        "count_1h": {"by": ["merchant_id"], "over": "1h", "aggregate": "count"},
    },
    "expressions": {"f": "scaled / 2", "scaled": "amount_cents / mean_1d", "other": "log1p(count_1h)"},
    "numeric": ["f", "other"],
    "categorical": ["channel"],
}


def _changed(fraud: Pipeline, **features: object) -> set[str]:
    """Features whose digest is another one once `features` stand in the place of those of RATIO."""
    before, after = feature_digests(_with(fraud, **RATIO)), feature_digests(_with(fraud, **(RATIO | features)))
    return {name for name in before if before[name] != after[name]}


def _window(**changes: object) -> dict[str, object]:
    return RATIO["windows"] | {"mean_1d": RATIO["windows"]["mean_1d"] | changes}


@pytest.mark.parametrize(
    ("features", "changed"),
    [
        ({"expressions": RATIO["expressions"] | {"f": "scaled / 3"}}, {"f"}),
        ({"expressions": RATIO["expressions"] | {"scaled": "amount_cents - mean_1d"}}, {"f"}),
        ({"windows": _window(over="7d")}, {"f"}),
        ({"windows": _window(by=["card_id", "merchant_id"])}, {"f"}),
        ({"windows": _window(aggregate="max")}, {"f"}),
        ({"expressions": RATIO["expressions"] | {"f": "(scaled\n/2)"}, "windows": _window(over="24h")}, set()),
        ({"numeric": ["other", "f"], "expressions": RATIO["expressions"] | {"idle": "1"}}, set()),
    ],
    ids=["own text", "text it reads", "span", "key", "aggregate", "written otherwise", "order"],
)
def test_a_features_digest_follows_all_it_rests_on(
    fraud: Pipeline, features: dict[str, object], changed: set[str]
) -> None:
    assert _changed(fraud, **features) == changed


def test_a_features_digest_follows_its_kind_and_the_types_of_its_columns(fraud: Pipeline) -> None:
    counted = {"expressions": {"f": "amount_cents // 100"}, "numeric": ("f",)}
    before = feature_digests(_with(fraud, **counted))
    assert feature_digests(_with(fraud, **counted | {"numeric": (), "categorical": ("f",)})) != before
    columns = fraud.contract.columns | {"amount_cents": ColumnSpec(type="float")}
    retyped = fraud.model_copy(update={"contract": fraud.contract.model_copy(update={"columns": columns})})
    assert feature_digests(_with(retyped, **counted)) != before
    assert feature_digests(_with(fraud.model_copy(update={"owner": "others"}), **counted)) == before


def test_a_features_digest_stays_over_releases(shop: Pipeline) -> None:
    """Another one for the same spec would part every model from the champion that it is to beat."""
    found = {name: digest[:12] for name, digest in feature_digests(shop).items()}
    assert found == {
        "amount": "e59288bc47b3",
        "share": "a97394f2077d",
        "orders_2d": "13c8be89dacc",
        "who": "199355b516bd",
    }


def test_checking_a_spec_loads_no_compiler_and_no_lake() -> None:
    code = "import sys, evergreen.features.definitions; print([m for m in ('numba','deltalake') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
