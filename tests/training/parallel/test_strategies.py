"""Each strategy on two processes against one process: gradients, weights, rows, memory and checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Parallel, Training
from evergreen.training.parallel.choice import num_processes, require_rows
from evergreen.training.team import Team

STRATEGIES = ("data", "sharded", "pipeline", "tensor")
SCRIPT = Path(__file__).parent / "two_ranks.py"

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What two processes found, by strategy; they are started once, for importing torch is most of their time."""
    out = tmp_path_factory.mktemp("two_ranks") / "found.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return dict(json.loads(out.read_text()))


@every_strategy
@pytest.mark.parametrize("rows", [200, 101, 1], ids=["even", "uneven", "fewer than processes"])
def test_gradients_are_those_of_one_process(found: dict[str, dict[str, Any]], strategy: str, rows: int) -> None:
    assert found[strategy][f"gradient {rows}"] < 1e-6


@every_strategy
def test_gradients_in_bfloat16_are_those_of_one_process_but_for_its_rounding(
    found: dict[str, dict[str, Any]], strategy: str
) -> None:
    assert found[strategy]["bfloat16"] < 2e-2


@pytest.mark.parametrize("strategy", ["data", "sharded"])
def test_gradients_are_the_mean_of_those_of_the_shards(found: dict[str, dict[str, Any]], strategy: str) -> None:
    assert found[strategy]["mean of shards"] < 1e-7


@every_strategy
def test_weights_after_an_epoch_are_those_of_one_process(found: dict[str, dict[str, Any]], strategy: str) -> None:
    assert found[strategy]["weights"] < 1e-5
    together, alone = found[strategy]["loss"]
    assert together == pytest.approx(alone, rel=1e-6)


@every_strategy
def test_repeats_are_the_same_to_the_bit(found: dict[str, dict[str, Any]], strategy: str) -> None:
    assert found[strategy]["repeats"] == 0.0


@every_strategy
def test_every_row_of_an_epoch_is_seen_once(found: dict[str, dict[str, Any]], strategy: str) -> None:
    assert found[strategy]["rows once"]


@pytest.mark.parametrize(
    ("strategy", "most"), [("data", 1.0), ("sharded", 0.56), ("pipeline", 0.8), ("tensor", 0.6)], ids=STRATEGIES
)
def test_a_process_holds_its_share_of_the_state(found: dict[str, dict[str, Any]], strategy: str, most: float) -> None:
    held = found[strategy]["held"]
    assert max(held) <= most
    assert sum(held) == pytest.approx(2.0 if strategy == "data" else 1.0, abs=0.15)


@every_strategy
def test_each_halving_halves_the_rows_that_a_process_holds_at_once(
    found: dict[str, dict[str, Any]], strategy: str
) -> None:
    """Of 200 rows: a share of 100, or all of them where a process has a part of the network."""
    whole = 100 if strategy in ("data", "sharded") else 200
    for halvings, held in enumerate(found[strategy]["held at once"]):
        assert max(held) <= whole >> halvings
        assert min(held) > 0.9 * (whole >> halvings)
    assert found[strategy]["halved gradients"] < 1e-6


@every_strategy
@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("resumed inside an epoch", [True, 0, True, True]),
        ("resumed newest", [True, 2, True, True]),
        ("resumed damaged", [True, 1, True, True]),
        ("resumed half-written", [True, 1, True, True]),
        ("resumed foreign", [False, 0, False, False]),
    ],
)
def test_a_fresh_state_takes_on_the_newest_sound_checkpoint(
    found: dict[str, dict[str, Any]], strategy: str, case: str, wanted: list[object]
) -> None:
    """Whether there was one, its epoch, and that every tensor and number is the same in both processes."""
    assert found[strategy][case] == wanted


@every_strategy
def test_two_checkpoints_are_kept(found: dict[str, dict[str, Any]], strategy: str) -> None:
    assert found[strategy]["kept"] == ["epoch-000001", "epoch-000002"]


def test_more_processes_than_rows_are_refused() -> None:
    require_rows(3, Team(rank=0, size=3))
    with pytest.raises(ConfigurationError, match="found 4 processes for 3 rows"):
        require_rows(3, Team(rank=0, size=4))


@pytest.mark.parametrize("processes", [1, 3, 8])
def test_another_number_of_processes_than_devices_is_refused(processes: int) -> None:
    training = Training(parallel=Parallel(strategy="data", processes=processes))
    with pytest.raises(ConfigurationError, match=f"found {processes} processes for 4 cuda devices"):
        num_processes(training, devices=4, device_kind="cuda")


def test_processes_are_as_many_as_devices_unless_a_cpu_is_shared() -> None:
    unsaid, two = (Training(parallel=Parallel(strategy="data", processes=n)) for n in (None, 2))
    assert num_processes(unsaid, devices=4, device_kind="cuda") == 4
    assert num_processes(unsaid, devices=1, device_kind="cpu") == 1
    assert num_processes(two, devices=1, device_kind="cpu") == 2
