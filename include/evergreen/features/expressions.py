"""Row expressions: Python's expression syntax, parsed, typed and refused early; never evaluated as Python.

`parse` gives a small typed tree (`Column`, `Constant`, `Call`) that knows nothing of any engine;
`to_polars` is its meaning for batches. What may be called stands in `functions`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from evergreen.features.functions import FUNCTIONS, NUMBER, OPERATORS, Function, Type, finite

MAX_CHARACTERS = 2000
MAX_DEPTH = 100
"""Far below the interpreter's limit, so that what is accepted here computes wherever it is called from."""
TABLE: dict[str, Function] = OPERATORS | FUNCTIONS


@dataclass(frozen=True)
class Column:
    """A column, window or other expression, by name."""

    name: str
    type: Type


@dataclass(frozen=True)
class Constant:
    """A number, text or truth value written in the expression; numbers are floats."""

    value: float | str | bool
    type: Type


@dataclass(frozen=True)
class Call:
    """A function or operator of the table, with its arguments."""

    function: str
    arguments: tuple[Node, ...]
    type: Type


Node = Column | Constant | Call


class Refused(Exception):
    """What an expression may not say: position (from 1), what was found, what is wanted there."""

    def __init__(self, position: int, found: str, wanted: str) -> None:
        self.position = position
        self.found = found
        self.wanted = wanted
        super().__init__(f"position {position}: {found}, wanted {wanted}")


def names_in(text: str) -> frozenset[str]:
    """The names that expression `text` reads, functions left out; raises Refused when it cannot be parsed."""
    tree = _syntax(text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called)


def parse(text: str, types: Mapping[str, Type]) -> Node:
    """The typed tree of `text`, in which the names of `types` may stand; raises Refused for anything else."""
    return _Reader(text, types).read(_syntax(text))


def to_polars(node: Node) -> pl.Expr:
    """The Polars expression of `node`: Float64 for numbers, null for what has no value."""
    if isinstance(node, Column):
        column = pl.col(node.name)
        return finite(column.cast(pl.Float64)) if node.type in NUMBER else column
    if isinstance(node, Constant):
        return pl.lit(node.value)
    function = TABLE[node.function]
    value = function.polars(*(to_polars(argument) for argument in node.arguments))
    return value if function.finite or node.type not in NUMBER else finite(value)


def _syntax(text: str) -> ast.expr:
    """The syntax of `text`, whose columns are positions in it: line breaks count as blanks."""
    if len(text) > MAX_CHARACTERS:
        raise Refused(MAX_CHARACTERS, f"{len(text)} characters", f"at most {MAX_CHARACTERS}")
    line = text.replace("\r", " ").replace("\n", " ").replace("\t", " ")
    stripped = line.lstrip(" ")
    try:
        return ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        # An expression that ends too early is blamed on the line after it.
        within = error.offset if error.lineno == 1 and error.offset else len(stripped) + 1
        raise Refused(
            len(line) - len(stripped) + within, error.msg, "a Python expression such as log1p(amount / 100)"
        ) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Refused(1, str(error) or type(error).__name__, "a Python expression of ordinary depth") from None


BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
COMPARISON: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
ALLOWED = "names, numbers, 'text', + - * / // %, comparisons, and/or/not, x if c else y, and functions"


class _Reader:
    """Turns syntax into the typed tree, one method for each kind of syntax that is allowed."""

    def __init__(self, text: str, types: Mapping[str, Type]) -> None:
        self.types = types
        self.depth = 0
        self.indent = len(text) - len(text.lstrip())
        self.line = text.lstrip().encode()
        self.readers: dict[type[ast.expr], Callable[..., Node]] = {
            ast.Name: self._name,
            ast.Constant: self._constant,
            ast.BinOp: self._binary,
            ast.UnaryOp: self._unary,
            ast.BoolOp: self._boolean,
            ast.Compare: self._comparison,
            ast.IfExp: self._choice,
            ast.Call: self._call,
        }

    def read(self, node: ast.expr) -> Node:
        reader = self.readers.get(type(node))
        if reader is None:
            raise self._refused(node, type(node).__name__, ALLOWED)
        if self.depth == MAX_DEPTH:
            raise self._refused(node, f"more than {MAX_DEPTH} levels of nesting", "several expressions")
        self.depth += 1
        tree = reader(node)
        self.depth -= 1
        return tree

    def _name(self, node: ast.Name) -> Node:
        if node.id not in self.types:
            raise self._refused(node, f"unknown name {node.id!r}", f"one of {', '.join(sorted(self.types))}")
        return Column(node.id, self.types[node.id])

    def _constant(self, node: ast.Constant) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Constant(value, "boolean")
        if isinstance(value, str):
            return Constant(value, "string")
        if isinstance(value, int | float) and abs(value) < 2**1023:
            return Constant(float(value), "integer" if isinstance(value, int) else "float")
        raise self._refused(node, repr(value)[:40], "a finite number, 'text', True or False; is_null(x) tests for null")

    def _binary(self, node: ast.BinOp) -> Node:
        name = BINARY.get(type(node.op))
        if name is None:
            raise self._refused(node, f"operator {type(node.op).__name__}", ALLOWED)
        left, right = self.read(node.left), self.read(node.right)
        if name == "-" and left.type == right.type == "timestamp":
            name = "seconds"
        return self._applied(node, name, left, right)

    def _unary(self, node: ast.UnaryOp) -> Node:
        value = self.read(node.operand)
        if isinstance(node.op, ast.Not):
            return self._applied(node, "not", value)
        if isinstance(node.op, ast.USub):
            return self._applied(node, "negative", value)
        raise self._refused(node, f"operator {type(node.op).__name__}", ALLOWED)

    def _boolean(self, node: ast.BoolOp) -> Node:
        name = "and" if isinstance(node.op, ast.And) else "or"
        return self._applied(node, name, *(self.read(value) for value in node.values))

    def _comparison(self, node: ast.Compare) -> Node:
        operands = [self.read(operand) for operand in (node.left, *node.comparators)]
        pairs = []
        for op, left, right in zip(node.ops, operands[:-1], operands[1:], strict=True):
            if type(op) not in COMPARISON:
                raise self._refused(node, f"operator {type(op).__name__}", f"one of {' '.join(COMPARISON.values())}")
            pairs.append(self._applied(node, COMPARISON[type(op)], left, right))
        return pairs[0] if len(pairs) == 1 else self._applied(node, "and", *pairs)

    def _choice(self, node: ast.IfExp) -> Node:
        return self._applied(node, "if", self.read(node.test), self.read(node.body), self.read(node.orelse))

    def _call(self, node: ast.Call) -> Node:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            raise self._refused(node, f"a call of {ast.unparse(node.func)!r}", f"one of {', '.join(FUNCTIONS)}")
        if node.keywords:
            raise self._refused(node, f"argument {node.keywords[0].arg}=", "arguments by position only")
        return self._applied(node, node.func.id, *(self.read(argument) for argument in node.args))

    def _applied(self, node: ast.expr, name: str, *arguments: Node) -> Node:
        function = TABLE[name]
        types = [argument.type for argument in arguments]
        gives = function.result(types)
        if gives is None:
            wanted = " or ".join(str(signature) for signature in function.signatures)
            raise self._refused(node, f"{name!r} of ({', '.join(types)})", f"{name!r} of {wanted}")
        return Call(name, arguments, gives)

    def _refused(self, node: ast.expr, found: str, wanted: str) -> Refused:
        before = self.line[: node.col_offset].decode(errors="replace")
        return Refused(self.indent + len(before) + 1, found, wanted)
