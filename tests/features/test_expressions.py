"""Row expressions mean what they say, and wrong ones are refused with a position before any data is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import polars as pl
import pytest

from evergreen.features.expressions import Call, Column, Constant, Refused, parse, to_polars
from evergreen.features.functions import FUNCTIONS, NUMBER, Type

TYPES: dict[str, Type] = {
    "n": "integer",
    "x": "float",
    "s": "string",
    "b": "boolean",
    "at": "timestamp",
    "before": "timestamp",
}
MONDAY = datetime(2026, 11, 2, 13, 45, tzinfo=UTC)
ROW = {"n": 7, "x": 2.5, "s": "Köln", "b": True, "at": MONDAY, "before": datetime(2026, 11, 2, 13, 44, tzinfo=UTC)}
SCHEMA = {
    "n": pl.Int64,
    "x": pl.Float64,
    "s": pl.String,
    "b": pl.Boolean,
    "at": pl.Datetime("us", "UTC"),
    "before": pl.Datetime("us", "UTC"),
}


def _value(text: str, **changes: object) -> object:
    frame = pl.DataFrame([ROW | changes], schema=SCHEMA)
    return frame.select(to_polars(parse(text, TYPES))).item()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n + 2 * x - 1", 11.0),
        ("-n // 2", -4.0),
        ("-n % 3", 2.0),
        ("n % -3", -2.0),
        ("1 < n <= 7", True),
        ("n == 7 and not b", False),
        ("'big' if n > 5 else 'small'", "big"),
        ("round(x)", 2.0),
        ("round(x + 1)", 4.0),
        ("max(n, x, 9)", 9.0),
        ("log1p(n - 7) + sqrt(4) + abs(-1) + exp(0)", 4.0),
        ("at - before", 60.0),
        ("hour(at) * 100 + minute(at)", 1345.0),
        ("weekday(at)", 0.0),
        ("day_of_month(at) + month(at)", 13.0),
        ("length(s)", 4.0),
        ("upper(s) == 'KÖLN' and contains(s, 'l') and starts_with(s, 'K')", True),
        ("concat(lower(s), '.')", "köln."),
        ("contains(s, '.')", False),
    ],
)
def test_expression_has_the_value_worked_by_hand(text: str, value: object) -> None:
    assert _value(text) == value


@pytest.mark.parametrize("text", ["n / 0", "n // 0", "n % 0", "log(-x)", "log(x - x)", "sqrt(-n)", "exp(x * 1000)"])
def test_what_is_not_finite_is_null(text: str) -> None:
    assert _value(text) is None


@pytest.mark.parametrize("missing", [float("nan"), float("inf"), None])
def test_number_that_is_not_finite_in_the_data_is_null(missing: float | None) -> None:
    assert _value("x", x=missing) is None


@pytest.mark.parametrize(
    "text", ["n + 1", "n < 3", "max(n, 9)", "concat(s, 'a')", "not b", "b and True", "b or False", "1 if b else 2"]
)
def test_null_propagates(text: str) -> None:
    assert _value(text, n=None, s=None, b=None) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("b and False", False),
        ("b or True", True),
        ("is_null(n) or n > 5", True),
        ("coalesce(n, x, 1)", 2.5),
        ("2 if is_null(b) else n", 2.0),
    ],
)
def test_null_does_not_hide_what_is_certain(text: str, value: object) -> None:
    assert _value(text, n=None, b=None) == value


def test_tree_is_typed_and_free_of_any_engine() -> None:
    assert parse("n > 1.5", TYPES) == Call(">", (Column("n", "integer"), Constant(1.5, "float")), "boolean")


@pytest.mark.parametrize(
    ("text", "gives"),
    [
        ("n + 1", "integer"),
        ("n + 1.0", "float"),
        ("n / 1", "float"),
        ("x // 1", "integer"),
        ("round(x)", "integer"),
        ("n if b else x", "float"),
        ("coalesce(s, 'none')", "string"),
    ],
)
def test_type_of_an_expression(text: str, gives: Type) -> None:
    assert parse(text, TYPES).type == gives


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_computes_its_declared_type(name: str) -> None:
    operand = {"integer": "n", "float": "x", "string": "s", "boolean": "b", "timestamp": "at"}
    for signature in FUNCTIONS[name].signatures:
        text = f"{name}({', '.join(operand[min(types)] for types in signature.takes)})"
        node = parse(text, TYPES)
        dtype = pl.DataFrame([ROW], schema=SCHEMA).select(to_polars(node)).dtypes[0]
        plain = {"string": pl.String, "boolean": pl.Boolean, "timestamp": pl.Datetime("us", "UTC")}
        assert dtype == (pl.Float64 if node.type in NUMBER else plain[node.type])


@pytest.mark.parametrize(
    ("text", "position", "found"),
    [
        ("n + nothing", 5, "unknown name 'nothing'"),
        ("  n + s", 3, r"'\+' of \(integer, string\)"),
        ("'ö' == s and (n == 'a')", 15, "'==' of"),
        ("log1p(\n  s)", 1, "'log1p' of"),
        ("eval('1')", 1, "a call of 'eval'"),
        ("s.upper()", 1, "a call of 's.upper'"),
        ("n.real", 1, "Attribute"),
        ("n[0]", 1, "Subscript"),
        ("[n for n in s]", 1, "ListComp"),
        ("lambda: n", 1, "Lambda"),
        ("(y := n)", 2, "NamedExpr"),
        ("f'{n}'", 1, "JoinedStr"),
        ("n ** 2", 1, "operator Pow"),
        ("n in s", 1, "operator In"),
        ("round(n, ndigits=2)", 1, "argument ndigits="),
        ("max(*n)", 5, "Starred"),
        ("None", 1, "None"),
        ("1j + n", 1, "1j"),
        ("1e999", 1, "inf"),
        ("b + 1", 1, r"'\+' of \(boolean"),
        ("n and b", 1, "'and' of"),
        ("1 if n else 2", 1, "'if' of"),
        ("at + 1", 1, r"'\+' of \(timestamp"),
        ("log()", 1, r"'log' of \(\)"),
        ("n +", 4, "invalid syntax"),
        ("", 1, "invalid syntax"),
        ("1 +" * 900, 2000, "2700 characters"),
        ("not " * 400 + "b", 401, "more than 100 levels"),
        ("-" * 1999 + "n", 101, "more than 100 levels"),
        ("9" * 400, 1, "9{40}"),
    ],
)
def test_wrong_expression_is_refused_where_it_is_wrong(text: str, position: int, found: str) -> None:
    with pytest.raises(Refused, match=found) as refusal:
        parse(text, TYPES)
    assert refusal.value.position == position
    assert refusal.value.wanted


def test_types_are_those_of_the_contract() -> None:
    assert set(TYPES.values()) == set(get_args(Type))
