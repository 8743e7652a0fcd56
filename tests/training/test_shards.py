"""Rows streamed from disk: the same rows as in memory, each once an epoch, and memory that does not grow with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from evergreen.artifacts import TrainingSet
from evergreen.errors import DataError
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.training import shards as shards_module
from evergreen.training.checkpoint_folder import clear_checkpoints
from evergreen.training.encoders import Encoded
from evergreen.training.prepared import encode_shards, open_shards, prepare
from evergreen.training.ranking import average_precision
from evergreen.training.rows import Epoch, Rows, Share
from evergreen.training.scorer import Scorer, Signature
from evergreen.training.shards import Shards, write_shards
from evergreen.training.train import train

CPU = torch.device("cpu")
ROWS = 1000
POSITIVES = 100
ONE_ARENA = {"MALLOC_ARENA_MAX": "1", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A busy machine makes threads take arenas of their own, which is not the growth looked for."""
MEMORY = """
import sys
from pathlib import Path
import torch
from evergreen.pipeline import Training
from evergreen.training import shards
from evergreen.training.batch import Batch
from evergreen.training.loop import score
from evergreen.training.network import TabularNetwork
from evergreen.training.prepared import encode_shards, open_shards
from evergreen.training.rows import WHOLE
from evergreen.training.scorer import Signature
from evergreen.training.strategy import Alone

torch.set_num_threads(1)
shards.WINDOW_SHARDS = 4
part, folder = Path(sys.argv[1]), Path(sys.argv[2])
signature = Signature(numeric=tuple(f"n{i}" for i in range(24)), categorical=("c",))
training = Training(rows_in_memory=10_000, hidden=(8,), negative_share=1.0)
facts = encode_shards(part, part, signature, training, folder)
prepared = open_shards(facts, folder, training, torch.device("cpu"))
network = TabularNetwork(facts.encoders, hidden=(8,), dropout=0.0)
alone, draws = Alone(network, precision=torch.float32), torch.Generator().manual_seed(0)
epoch = prepared.train.draw(negative_share=1.0, batch_rows=1024, share=WHOLE, draws=draws)
seen = 0
for rows in epoch.read(0):
    alone.accumulate(Batch.draw(rows, network, size=rows.num_rows, share=WHOLE, draws=draws), rows.num_rows)
    seen += rows.num_rows
assert seen == score(network, prepared.validation, 1024).size == epoch.num_rows
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seen, peak)  # ru_maxrss would count what the process that started this one held
"""


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many shards and several windows out of few rows."""
    monkeypatch.setattr(shards_module, "SHARD_ROWS", 64)
    monkeypatch.setattr(shards_module, "WINDOW_SHARDS", 5)


@pytest.fixture
def numbered(tmp_path: Path, small_shards: None) -> Shards:
    """A thousand rows whose one value is their number, a tenth of them positive, written in uneven batches."""
    values, labels = np.arange(ROWS, dtype=np.float32)[:, None], (np.arange(ROWS) % 10 == 0).astype(np.float32)
    categories = np.arange(ROWS)[:, None] % 7
    parts = np.split(np.arange(ROWS), [150, 151, 600])
    write_shards(
        tmp_path / "shards",
        (Encoded(numeric=values[p], categories=categories[p], labels=labels[p]) for p in parts),
    )
    return Shards.open(tmp_path / "shards", CPU)


def _draw(source: Shards | Rows, *, share: Share | None = None, negative_share: float = 0.3, seed: int = 0) -> Epoch:
    draws = torch.Generator().manual_seed(seed)
    return source.draw(negative_share=negative_share, batch_rows=48, share=share or Share(), draws=draws)


def _numbers(batches: list[Rows]) -> list[int]:
    return [int(number) for batch in batches for number in batch.values[:, 0]]


def test_an_epoch_from_disk_holds_every_positive_once_and_other_negatives_than_the_last(numbered: Shards) -> None:
    first, second = (list(_draw(numbered, seed=seed).read(0)) for seed in (1, 2))
    for batches in (first, second):
        numbers = _numbers(batches)
        assert len(set(numbers)) == len(numbers)
        assert sum(number % 10 == 0 for number in numbers) == POSITIVES
        assert len(numbers) == pytest.approx(POSITIVES + 0.3 * (ROWS - POSITIVES), abs=5)
        assert {batch.num_rows for batch in batches[:-1]} == {48}
    assert set(_numbers(first)) != set(_numbers(second))
    assert all((b.indices[:, 0] == b.values[:, 0].long() % 7).all() for b in first)


@pytest.mark.parametrize("of", [1, 2, 3, 7])
@pytest.mark.parametrize("stored", ["on disk", "in memory"])
def test_the_shares_of_all_processes_are_every_row_once_also_when_they_are_uneven(
    numbered: Shards, of: int, stored: str
) -> None:
    source = numbered if stored == "on disk" else numbered.load()
    whole = list(_draw(source).read(0))
    shares = [list(_draw(source, share=Share(index=index, of=of)).read(0)) for index in range(of)]
    for number, batch in enumerate(whole):
        assert _numbers([share[number] for share in shares]) == _numbers([batch])


@pytest.mark.parametrize("first", [0, 3, 7])
def test_an_epoch_can_be_taken_up_at_any_batch(numbered: Shards, first: int) -> None:
    share = Share(index=1, of=2)
    whole = list(_draw(numbered, share=share).read(0))
    assert [_numbers([batch]) for batch in _draw(numbered, share=share).read(first)] == [
        _numbers([batch]) for batch in whole[first:]
    ]


def test_rows_come_back_in_order_and_whole(numbered: Shards) -> None:
    assert _numbers(list(numbered.slices(10))) == list(range(ROWS))
    assert max(rows.num_rows for rows in numbered.slices(10)) == 10
    assert numbered.labels.sum() == POSITIVES
    assert numbered.num_rows == numbered.load().num_rows == ROWS


def test_a_part_within_memory_is_encoded_the_same_on_disk(
    tiny: Pipeline, make_rows: Callable[..., pl.DataFrame], tmp_path: Path, small_shards: None
) -> None:
    features = Signature(numeric=tiny.features.numeric, categorical=tiny.features.categorical)
    parts = (tmp_path / "train.parquet", tmp_path / "validation.parquet")
    for seed, part in enumerate(parts):
        make_rows(1500, seed=seed).write_parquet(part)
    in_memory = prepare(*parts, features, CPU)
    facts = encode_shards(*parts, features, tiny.training, tmp_path / "shards")
    on_disk = open_shards(facts, tmp_path / "shards", tiny.training, CPU)
    for one, other in ((in_memory.train, on_disk.train), (in_memory.validation, on_disk.validation)):
        (a,), (b,) = one.slices(2000), other.slices(2000)
        assert torch.equal(a.values.nan_to_num(-1e9), b.values.nan_to_num(-1e9))
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.given, b.given)
    counts = [(p.facts.positives, p.facts.negatives) for p in (in_memory, on_disk)]
    assert counts[0] == counts[1]


def test_a_model_learns_from_a_part_larger_than_memory(
    lake: Lake,
    tiny: Pipeline,
    make_training_set: Callable[..., TrainingSet],
    make_rows: Callable[..., pl.DataFrame],
    tmp_path: Path,
    small_shards: None,
) -> None:
    training = tiny.training.model_copy(update={"rows_in_memory": 1000})
    pipeline = tiny.model_copy(update={"training": training})
    training_set = make_training_set(lake, pipeline)
    versions = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        model = train(pipeline, training_set, lake, work=tmp_path / name)
        clear_checkpoints(lake, model)
        versions.append(model.version)
    unseen = make_rows(2000, seed=99)
    scores = Scorer.load(lake, model.uri, model.digest).score(unseen)
    labels = unseen["label"].to_numpy()
    assert versions[0] == versions[1]
    assert average_precision(labels, scores) > 3 * labels.mean()


def test_a_part_without_categories_is_encoded_on_disk(
    tiny: Pipeline, make_rows: Callable[..., pl.DataFrame], tmp_path: Path, small_shards: None
) -> None:
    part = tmp_path / "train.parquet"
    make_rows(1500).write_parquet(part)
    features = Signature(numeric=tiny.features.numeric, categorical=())
    facts = encode_shards(part, part, features, tiny.training, tmp_path / "shards")
    (rows,) = open_shards(facts, tmp_path / "shards", tiny.training, CPU).train.slices(2000)
    assert (rows.num_rows, rows.indices.shape[1]) == (1500, 0)


def test_a_sample_of_one_class_is_refused_where_encoders_are_fitted_to_it(
    tiny: Pipeline, make_rows: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    part, validation = tmp_path / "train.parquet", tmp_path / "validation.parquet"
    rare = (pl.int_range(pl.len()) == 1).cast(pl.Int8)
    make_rows(4000).with_columns(label=rare).write_parquet(part)
    part.rename(validation)
    make_rows(4000).write_parquet(part)
    training = tiny.training.model_copy(update={"rows_in_memory": 1000})
    features = Signature(numeric=tiny.features.numeric, categorical=tiny.features.categorical)
    encode_shards(part, validation, features, training, tmp_path / "shards")
    wanted = r"train sample part: found the values \[0\] in 1000 rows.*Raise training\.rows_in_memory"
    with pytest.raises(DataError, match=wanted):
        encode_shards(validation.rename(part), part, features, training, tmp_path / "shards")


def test_ten_times_the_rows_need_the_same_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (80_000, 800_000):
        part = tmp_path / f"{rows}.parquet"
        _write_wide(part, rows)
        command = [sys.executable, "-c", MEMORY, str(part), str(tmp_path / str(rows))]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ONE_ARENA)
        seen, kibibytes = map(int, done.stdout.split())
        assert seen == rows
        peaks.append(kibibytes)
    assert peaks[1] < 1.25 * peaks[0], f"peaks of {peaks} KiB"


def _write_wide(path: Path, rows: int) -> None:
    """24 numbers and a category: 800,000 rows of them are over 150 MB as they come and 84 MB encoded.

    The numbers have two values, and so one bin each, which keeps the arithmetic small beside the data.
    """
    rng = np.random.default_rng(0)
    columns = {f"n{i}": (rng.random(rows) < 0.5).astype(float) for i in range(24)}
    category, label = (rng.integers(0, 20, rows).astype(str), (rng.random(rows) < 0.05).astype(np.int8))
    pl.DataFrame({**columns, "c": category, "label": label}).write_parquet(path, row_group_size=50_000)
