"""The error tree is the one its module draws, and an error survives the way out of a process."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from evergreen import errors
from evergreen.errors import EXIT_MEANING, EvergreenError


def _classes(root: type[EvergreenError] = EvergreenError) -> list[type[EvergreenError]]:
    return [
        root,
        *(c for child in root.__subclasses__() if child.__module__ == errors.__name__ for c in _classes(child)),
    ]


def _drawn() -> dict[str, tuple[int, str | None]]:
    """Class name -> depth in the drawing and the exit code beside it, if there is one."""
    lines = [line for line in (errors.__doc__ or "").splitlines() if "--" in line or "EvergreenError" in line]
    found = {}
    for line in lines:
        match = re.search(r"([A-Z]\w+)(?:\s+(\d+))?", line)
        found[match[1]] = (match.start(1), match[2])
    return found


def _make(kind: type[EvergreenError] = EvergreenError) -> EvergreenError:
    return kind("Port", found="80", wanted="a free one", remedy="Choose another.", details="a\nb")


def test_the_drawing_names_every_class_once() -> None:
    assert set(_drawn()) == {kind.__name__ for kind in _classes()}


def test_the_drawing_shows_parents_and_exit_codes() -> None:
    drawn = _drawn()
    for kind in _classes()[1:]:
        column, code = drawn[kind.__name__]
        parent = kind.__mro__[1]
        assert column > drawn[parent.__name__][0]
        if code is not None:
            assert kind.exit_code == int(code)
        else:
            assert kind.exit_code == parent.exit_code


def test_every_exit_code_has_a_meaning() -> None:
    assert {kind.exit_code for kind in _classes()[1:]} | {0} == set(EXIT_MEANING)


@pytest.mark.parametrize("kind", _classes()[1:], ids=lambda kind: kind.__name__)
def test_retryable_and_exit_code_say_the_same(kind: type[EvergreenError]) -> None:
    assert kind.retryable is ("retry" in EXIT_MEANING[kind.exit_code])
    assert kind.retryable is not ("fail at once" in EXIT_MEANING[kind.exit_code])


def test_message_is_thing_found_wanted_remedy_without_the_details() -> None:
    assert str(_make()) == "Port: found 80, wanted a free one. Choose another."
    assert _make().details == "a\nb"


@pytest.mark.parametrize("kind", _classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])  # noqa: S301
def test_error_survives_the_way_out_of_a_process(kind: type[EvergreenError], through: object) -> None:
    error = through(_make(kind))
    assert type(error) is kind
    assert vars(error) == vars(_make(kind))
    assert str(error) == str(_make(kind))
