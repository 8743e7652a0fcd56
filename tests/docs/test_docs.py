"""The documentation tells the truth about keys, commands and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from evergreen.cli import main
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def _keys(model: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys.add(name)
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                keys |= _keys(part)
    return keys


def test_spec_page_explains_every_key() -> None:
    explained = set(re.findall(r"`([a-z_]+)`", (PROJECT / "docs" / "pipeline-spec.md").read_text()))
    assert _keys(Pipeline) - explained == set()


def test_readme_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= targets
    for words in set(re.findall(r"bin/evergreen ([a-z-]+)", README)):
        assert CliRunner().invoke(main, [words, "--help"]).exit_code == 0, words


def test_readme_example_is_a_sound_spec(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example is not None
    name = yaml.safe_load(example[1])["pipeline"]
    (tmp_path / f"{name}.yaml").write_text(example[1])
    assert read_pipeline(tmp_path / f"{name}.yaml").pipeline == name
    assert len(example[1].strip().splitlines()) <= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
