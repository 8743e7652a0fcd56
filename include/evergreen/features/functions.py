"""The one table of what a row expression may call: operators and functions, their types and meaning.

Every entry says which types it takes, which it gives, and what it does to a batch (Polars). A meaning
for single events is one more field of `Function`, so that the two can never list different functions.

Rules that hold for the whole table, and for any meaning added to it:
- Numbers are computed in IEEE float64; whole numbers are exact to 2^53. Type `integer` means "whole".
- A null operand gives null. Exceptions: `and`/`or` answer when one side alone decides (as SQL does),
  `is_null`, `coalesce`, and `if`, which looks only at the chosen branch (a null condition gives null).
- Division by zero and every other result that is NaN or infinite is null (`finite`).
- `//` is floor(a / b) and `%` is a - b * floor(a / b), so the sign of `%` follows the divisor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import polars as pl

Type = Literal["string", "integer", "float", "boolean", "timestamp"]
Types = frozenset[Type]

NUMBER: Types = frozenset({"integer", "float"})
STRING: Types = frozenset({"string"})
BOOLEAN: Types = frozenset({"boolean"})
TIMESTAMP: Types = frozenset({"timestamp"})
FAMILIES = (NUMBER, STRING, BOOLEAN, TIMESTAMP)
"""Values compare and mix within a family only."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One way to call a function."""

    takes: tuple[Types, ...]
    gives: Type | None
    """None: float when any number among the arguments is one, else the type of the last argument."""
    repeats: bool = False
    """Whether the last parameter may be given any number of times."""

    def result(self, arguments: Sequence[Type]) -> Type | None:
        """The type of a call with `arguments`; None when they do not fit."""
        takes = self.takes
        if self.repeats and len(arguments) > len(takes):
            takes += (takes[-1],) * (len(arguments) - len(takes))
        if len(arguments) != len(takes) or any(a not in t for a, t in zip(arguments, takes, strict=True)):
            return None
        return self.gives or ("float" if "float" in arguments else arguments[-1])

    def __str__(self) -> str:
        names = ["number" if types == NUMBER else "/".join(sorted(types)) for types in self.takes]
        return f"({', '.join(names)}{', ...' if self.repeats else ''})"


@dataclass(frozen=True, kw_only=True)
class Function:
    """One operator or function of the expression language."""

    signatures: tuple[Signature, ...]
    polars: Callable[..., pl.Expr]
    """Its meaning for batches; numbers arrive as Float64 and finite, timestamps as Datetime in UTC."""
    finite: bool = True
    """Whether finite operands always give a finite result."""

    def result(self, arguments: Sequence[Type]) -> Type | None:
        """The type of a call with `arguments`; None when no signature fits."""
        fitting = (s.result(arguments) for s in self.signatures)
        return next((gives for gives in fitting if gives is not None), None)


def finite(value: pl.Expr) -> pl.Expr:
    """`value` with null where it is NaN or infinite: the one place where that rule is applied."""
    return pl.when(value.is_finite()).then(value)


def _signature(*takes: Types, gives: Type | None, repeats: bool = False) -> tuple[Signature, ...]:
    return (Signature(takes=takes, gives=gives, repeats=repeats),)


def _per_family(*before: Types, times: int, gives: Type | None = None, repeats: bool = False) -> tuple[Signature, ...]:
    return tuple(Signature(takes=before + (f,) * times, gives=gives, repeats=repeats) for f in FAMILIES)


def _extreme(pick: Callable[..., pl.Expr]) -> Callable[..., pl.Expr]:
    def extreme(*values: pl.Expr) -> pl.Expr:
        return pl.when(pl.all_horizontal(v.is_not_null() for v in values)).then(pick(*values))

    return extreme


def _choose(condition: pl.Expr, yes: pl.Expr, no: pl.Expr) -> pl.Expr:
    return pl.when(condition.is_not_null()).then(pl.when(condition).then(yes).otherwise(no))


def _minus(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return a - b


def _seconds_between(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return (a.cast(pl.Int64) - b.cast(pl.Int64)).cast(pl.Float64) / 1e6


def _comparison(compare: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Function:
    return Function(signatures=_per_family(times=2, gives="boolean"), polars=compare)


def _whole(part: Callable[[pl.Expr], pl.Expr], takes: Types = TIMESTAMP) -> Function:
    return Function(signatures=_signature(takes, gives="integer"), polars=lambda x: part(x).cast(pl.Float64))


def _real(operation: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(signatures=_signature(NUMBER, gives="float"), polars=operation, finite=False)


def _arithmetic(operation: Callable[[pl.Expr, pl.Expr], pl.Expr], gives: Type | None = None) -> Function:
    return Function(signatures=_signature(NUMBER, NUMBER, gives=gives), polars=operation, finite=False)


def _text(change: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(signatures=_signature(STRING, gives="string"), polars=change)


def _text_test(test: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> Function:
    return Function(signatures=_signature(STRING, STRING, gives="boolean"), polars=test)


OPERATORS: dict[str, Function] = {
    "+": _arithmetic(lambda a, b: a + b),
    "*": _arithmetic(lambda a, b: a * b),
    "-": _arithmetic(_minus),
    "/": _arithmetic(lambda a, b: a / b, gives="float"),
    "//": _arithmetic(lambda a, b: (a / b).floor(), gives="integer"),
    "%": _arithmetic(lambda a, b: a - b * (a / b).floor()),
    "negative": Function(signatures=_signature(NUMBER, gives=None), polars=lambda a: -a),
    "seconds": Function(signatures=_signature(TIMESTAMP, TIMESTAMP, gives="float"), polars=_seconds_between),
    "==": _comparison(lambda a, b: a == b),
    "!=": _comparison(lambda a, b: a != b),
    "<": _comparison(lambda a, b: a < b),
    "<=": _comparison(lambda a, b: a <= b),
    ">": _comparison(lambda a, b: a > b),
    ">=": _comparison(lambda a, b: a >= b),
    "and": Function(
        signatures=_signature(BOOLEAN, BOOLEAN, gives="boolean", repeats=True),
        polars=lambda *values: reduce(lambda a, b: a & b, values),
    ),
    "or": Function(
        signatures=_signature(BOOLEAN, BOOLEAN, gives="boolean", repeats=True),
        polars=lambda *values: reduce(lambda a, b: a | b, values),
    ),
    "not": Function(signatures=_signature(BOOLEAN, gives="boolean"), polars=lambda a: ~a),
    "if": Function(signatures=_per_family(BOOLEAN, times=2), polars=_choose),
}
"""What Python's own syntax stands for; `seconds` is the difference of two timestamps."""

FUNCTIONS: dict[str, Function] = {
    "log": _real(lambda a: a.log()),
    "log1p": _real(lambda a: a.log1p()),
    "exp": _real(lambda a: a.exp()),
    "sqrt": _real(lambda a: a.sqrt()),
    "abs": Function(signatures=_signature(NUMBER, gives=None), polars=lambda a: a.abs()),
    "round": _whole(lambda a: a.round(mode="half_to_even"), NUMBER),
    "floor": _whole(lambda a: a.floor(), NUMBER),
    "min": Function(
        signatures=_signature(NUMBER, NUMBER, gives=None, repeats=True), polars=_extreme(pl.min_horizontal)
    ),
    "max": Function(
        signatures=_signature(NUMBER, NUMBER, gives=None, repeats=True), polars=_extreme(pl.max_horizontal)
    ),
    "minute": _whole(lambda a: a.dt.minute()),
    "hour": _whole(lambda a: a.dt.hour()),
    "weekday": _whole(lambda a: a.dt.weekday() - 1),
    "day_of_month": _whole(lambda a: a.dt.day()),
    "month": _whole(lambda a: a.dt.month()),
    "is_null": Function(signatures=_per_family(times=1, gives="boolean"), polars=lambda a: a.is_null()),
    "coalesce": Function(signatures=_per_family(times=2, repeats=True), polars=pl.coalesce),
    "length": _whole(lambda a: a.str.len_chars(), STRING),
    "lower": _text(lambda a: a.str.to_lowercase()),
    "upper": _text(lambda a: a.str.to_uppercase()),
    "concat": Function(
        signatures=_signature(STRING, STRING, gives="string", repeats=True),
        polars=lambda *values: pl.concat_str(values, ignore_nulls=False),
    ),
    "contains": _text_test(lambda a, b: a.str.contains(b, literal=True)),
    "starts_with": _text_test(lambda a, b: a.str.starts_with(b)),
    "ends_with": _text_test(lambda a, b: a.str.ends_with(b)),
}
"""What may be called by name. All times are UTC; `weekday` is 0 on Monday; `round` goes half to even."""
