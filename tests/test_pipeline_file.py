"""Specs are read, or refused with the file, the line, what was found and what was wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Pipeline, Training
from evergreen.pipeline_file import read_pipeline, read_pipelines

SPEC = """\
pipeline: churn
owner: growth
purpose: Find customers about to leave.
source: {connection: crm, table: visits}
contract:
  key: visit_id
  event_time: at
  known_at: seen_at
  columns:
    visit_id: {type: string}
    pages: {type: integer}
    plan: {type: string, nullable: true}
label: {name: left, table: churned, key: visit_id, known_at: told_at, matures_after_days: 5}
features:
  windows:
    visits_7d: {by: [plan], over: 7d, aggregate: count}
  numeric: [pages, visits_7d]
  categorical: [plan]
gate:
  minimum: {roc_auc: 0.7}
deployment:
  decisions: {floors: {call: 0.5}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a spec file, the valid one with replacements unless a whole text is given."""

    def make(*changes: tuple[str, str], text: str = SPEC, name: str = "churn.yaml") -> Path:
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} must occur once"
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


def _searched(tried: str) -> tuple[str, str]:
    """The replacement that gives the spec a search over `tried`, in line 7."""
    search = ["search:", "  configurations: 2", "  budget_epochs: 9", "  space:", f"    {tried}"]
    return "owner: growth", "\n".join(["owner: growth", *search])


def _refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        read_pipeline(path)
    return str(refusal.value)


def test_small_spec_is_read_with_defaults(write: Write) -> None:
    pipeline = read_pipeline(write())
    assert pipeline.pipeline == "churn"
    assert pipeline.source.late_days == 2
    assert pipeline.features.numeric == ("pages", "visits_7d")
    assert pipeline.contract.columns["plan"].nullable


def test_shipped_spec_is_read(fraud: Pipeline) -> None:
    assert fraud.pipeline == "fraud"
    assert "amount" in fraud.features.numeric


def test_spec_page_has_each_field_of_training_once() -> None:
    page = (Path(__file__).parents[1] / "docs" / "pipeline-spec.md").read_text()
    section = page.partition("| **`training`**")[2].partition("| **`search`**")[0]
    named = [name for row in section.splitlines()[1:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(Training.model_fields)


def test_layout_does_not_change_the_digest_and_content_does(write: Write) -> None:
    plain = read_pipeline(write()).digest
    source = "source: {connection: crm, table: visits}"
    spread = (source, "# where from\nsource:\n    table: 'visits'\n    connection: crm")
    assert read_pipeline(write(spread)).digest == plain
    assert read_pipeline(write(("roc_auc: 0.7", "roc_auc: 0.71"))).digest != plain


def test_anchors_and_merges_work(write: Write) -> None:
    text = SPEC.replace("visit_id: {type: string}", "visit_id: &text {type: string}")
    text = text.replace("plan: {type: string, nullable: true}", "plan: {<<: *text, nullable: true}")
    columns = read_pipeline(write(text=text)).contract.columns
    assert (columns["plan"].type, columns["plan"].nullable) == ("string", True)


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("owner: growth", "owner: growth\nownr: x"), 3, "ownr: an unknown key"),
        (("pages: {type: integer}", "pages: {type: number}"), 11, "'number' (input should be 'string'"),
        (("pages: {type: integer}", "pages: {type: integer, unti: s}"), 11, "unti: an unknown key"),
        (("owner: growth\n", ""), 1, "owner: Field required"),
        (("  key: visit_id\n", "  key: visit\n"), 5, "key 'visit' is not among columns"),
        (("known_at: told_at, ", ""), 13, "label.known_at: Field required"),
        (("over: 7d", "over: 7 weeks"), 16, "'7 weeks' is not a duration such as"),
        (("over: 7d", "over: 0d"), 16, "'0d' is not a duration"),
        (("aggregate: count", "aggregate: sum"), 16, "aggregate sum and of=None do not go together"),
        (("aggregate: count", "aggregate: max, of: plan"), 16, "must be an integer column"),
        (("by: [plan]", "by: [plans]"), 16, "features.windows.visits_7d names ['plans'], which is not declared"),
        (("numeric: [pages, visits_7d]", "numeric: [pages, visit_7d]"), 17, "features.numeric names ['visit_7d']"),
        (("minimum: {roc_auc: 0.7}", "minimum: {}"), 20, "gate.minimum"),
        (("minimum: {roc_auc: 0.7}", "minimum: {accuracy: 0.7}"), 20, "accuracy"),
        (("minimum: {roc_auc: 0.7}", "minimum: {roc_auc: 0.7}\n  slices: [pages]"), 21, "gate.slices names ['pages']"),
        (("gate:\n  minimum: {roc_auc: 0.7}\n", ""), 1, "gate: Field required"),
        (_searched("micro_batch_rows: {low: 32, high: 256}"), 7, "search.space.micro_batch_rows: it changes no trial"),
        (_searched("profile: {choices: [cpu-small, gpu-small]}"), 7, "search.space.profile: every pod of a search is"),
        (_searched("image: {choices: [a, b]}"), 7, "search.space.image: every pod of a search is"),
        (_searched("command: {choices: [a, b]}"), 7, "search.space.command: every pod of a search is"),
        (_searched("dropot: {choices: [0.1]}"), 6, "search.space names ['dropot'], which is not declared"),
        (("plan: {type: string, nullable: true}", "day: {type: string}"), 5, "columns ['day'] are reserved"),
        (("plan: {type: string, nullable: true}", "row: {type: string}"), 5, "columns ['row'] are reserved"),
        (("plan: {type: string, nullable: true}", "reasons: {type: string}"), 5, "columns ['reasons'] are reserved"),
        (("visit_id: {type: string}", "visit_id: {type: float}"), 5, "key 'visit_id' is of type float"),
        (("owner: growth", "owner: growth\ncleaning:\n  upper: [visit_id]"), 4, "cleaning.upper names the key"),
        (("pipeline: churn", "pipeline: Churn"), 1, "'Churn'"),
        (("matures_after_days: 5", "matures_after_days: soon"), 13, "'soon'"),
        (("matures_after_days: 5", "matures_after_days: -1"), 13, "-1 (input should be greater than or equal to 0)"),
    ],
)
def test_refusal_names_file_line_and_what_was_found(
    change: tuple[str, str], line: int, said: str, write: Write
) -> None:
    message = _refusal(write(change))
    assert message.startswith(f"churn.yaml line {line}: found ")
    assert said in message
    assert "wanted what docs/pipeline-spec.md allows there" in message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "no mapping"),
        ("- a\n- b\n", 1, "no mapping"),
        ("a: [1, 2\nb: 3\n", 2, "well-formed YAML"),
        ("a: 1\n\tb: 2\n", 2, "well-formed YAML"),
        ("a: 1\n---\nb: 2\n", 2, "well-formed YAML"),
        ("a: *gone\n", 1, "undefined alias"),
        ("a: 1\nb: \x01\n", 2, "well-formed YAML"),
        ("a: 1\nb: !secret x\n", 2, "!secret"),
        ("a: 1\nb: !!python/object/apply:os.getcwd []\n", 2, "python/object"),
        ("a: 1\nb: 2026-13-45\n", 2, "month must be in 1..12"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "key"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", 2, "c a second time, wanted each key once"),
        ("a: 1\nb: &b [*b]\n", 2, "itself"),
    ],
    ids=[
        "empty", "list", "unclosed", "tab", "two documents", "unknown alias", "control character", "unknown tag",
        "python tag", "impossible date", "list as key", "repeated key", "cycle",
    ],
)  # fmt: skip
def test_text_that_is_no_spec_is_refused_with_its_line(text: str, line: int, said: str, write: Write) -> None:
    message = _refusal(write(text=text))
    assert message.startswith(f"churn.yaml line {line}: found ")
    assert said in message
    assert "\n" not in message


def test_aliases_of_aliases_are_read_in_no_time(write: Write) -> None:
    doubled = "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))
    assert "an unknown key" in _refusal(write(text=f"a0: &a0 [1]\n{doubled}\n{SPEC}"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "churn.yaml"
    path.write_bytes(b"pipeline: caf\xe9\n")
    assert "churn.yaml line 1: found" in _refusal(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "gone.yaml: found No such file or directory" in _refusal(tmp_path / "gone.yaml")


def test_file_must_be_named_for_its_pipeline(write: Write) -> None:
    message = _refusal(write(("pipeline: churn\n", "# a comment\npipeline: leavers\n")))
    assert message.startswith("churn.yaml line 2: found pipeline: leavers, wanted the file's own name, churn")


def test_every_mistake_is_told_at_once(write: Write) -> None:
    path = write(("owner: growth", "owner: 3"), ("pages: {type: integer}", "pages: {type: number}"))
    with pytest.raises(ConfigurationError) as refusal:
        read_pipeline(path)
    assert "line 2, owner" in str(refusal.value)
    assert "line 11, contract.columns.pages.type" in str(refusal.value)
    assert len(refusal.value.details.splitlines()) == 2


def test_broken_spec_breaks_no_other(write: Write, tmp_path: Path) -> None:
    write()
    for number, text in enumerate(("a: [", "a: !secret x", "a: &a [*a]", "pipeline: broken3")):
        write(text=text, name=f"broken{number}.yaml")
    (tmp_path / "notes.txt").write_text("not a spec")
    pipelines, refusals = read_pipelines(tmp_path)
    assert [p.pipeline for p in pipelines] == ["churn"]
    assert [refusal.thing.split()[0] for refusal in refusals] == [f"broken{n}.yaml" for n in range(4)]
