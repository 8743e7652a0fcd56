"""Run by torchrun on two processes: what each strategy computes, beside one process that computes it all.

Writes JSON of differences and facts to the file given; the tests beside it say what they must be.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn

from evergreen.lake.objects import LocalObjects
from evergreen.pipeline import Parallel, Training
from evergreen.training.batch import Batch
from evergreen.training.dataset import Examples
from evergreen.training.devices import repeatable
from evergreen.training.encoders import fit_encoders
from evergreen.training.micro_batch import halved_rows
from evergreen.training.network import TabularNetwork
from evergreen.training.parallel.checkpoint import ShardedCheckpoints
from evergreen.training.parallel.choice import choose_strategy
from evergreen.training.rows import WHOLE, Rows
from evergreen.training.state import EpochResult, TrainingState, fingerprint
from evergreen.training.strategy import Alone, Strategy
from evergreen.training.team import Team

CPU = torch.device("cpu")
ROWS = 501
"""An odd number, so that shares are uneven; 101 rows are in the last batch of 200."""


def training(strategy: str) -> Training:
    return Training(
        batch_rows=200, hidden=(33, 32), threads=1, micro_batch_rows=60, parallel=Parallel(strategy=strategy)
    )


def make_rows() -> tuple[TabularNetwork, Rows]:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 40, ROWS)
    examples = Examples(
        numeric=rng.normal(size=(ROWS, 5)).astype(np.float32),
        categorical=pl.DataFrame({"level": levels.astype(str)}),
        labels=(rng.random(ROWS) < 0.1 + 0.4 * (levels == 3)).astype(np.float32),
    )
    encoders, encoded = fit_encoders(examples)
    torch.manual_seed(0)
    return TabularNetwork(encoders, hidden=(33, 32), dropout=0.2), Rows.on(CPU, encoded)


def take_steps(strategy: Strategy, network: TabularNetwork, rows: Rows, state: TrainingState) -> list[Tensor]:
    """Three batches of an epoch, the last of them small; the values of the rows this process computed."""
    draws, seen = torch.Generator().manual_seed(1), []
    epoch = rows.draw(negative_share=1.0, batch_rows=200, share=strategy.share, draws=draws)
    for number, part in enumerate(epoch.read(0)):
        batch = Batch.draw(part, network, size=epoch.size(number), share=strategy.share, draws=draws)
        state.progress.loss += strategy.accumulate(batch, 60)
        state.step(0.01)
        state.progress.batches += 1
        seen.append(part.values)
    state.progress.chance = draws.get_state()
    return seen


def differences(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    return max(float((found[name] - wanted[name]).abs().max()) for name in wanted)


def gradients(strategy: Strategy, batch: Batch, rows_at_once: int = 60) -> dict[str, Tensor]:
    strategy.accumulate(batch, rows_at_once)
    held = dict(strategy.network.named_parameters())
    found = strategy.whole({name: p.grad for name, p in held.items() if p.grad is not None})
    for parameter in held.values():
        parameter.grad = None
    return found


def examine(name: str, team: Team, work: Path) -> dict[str, object]:
    network, rows = make_rows()
    alone = Alone(copy.deepcopy(network), precision=torch.float32)
    strategy = choose_strategy(copy.deepcopy(network), training(name), team, CPU)
    facts: dict[str, object] = {}
    for size in (200, 101, 1):
        # every process draws the same chance; a batch of one row leaves one process with none
        draws = [torch.Generator().manual_seed(5) for _ in range(2)]
        wanted = gradients(
            alone, Batch.draw(rows.take(slice(0, size)), network, size=size, share=WHOLE, draws=draws[0])
        )
        piece = strategy.share.piece(size)
        mine = Batch.draw(rows.take(piece), network, size=size, share=strategy.share, draws=draws[1])
        found = gradients(strategy, mine)
        facts[f"gradient {size}"] = differences(found, wanted) if team.leads else 0.0
    mean_of_shards(name, team, strategy, network, rows, facts)
    facts["bfloat16"] = in_bfloat16(name, team, network, rows)
    states = []
    for _ in range(2):
        again = choose_strategy(copy.deepcopy(network), training(name), team, CPU)
        state = TrainingState(again.network, training(name), architecture=fingerprint(network))
        seen = take_steps(again, network, rows, state)
        states.append((again, state))
    weights = [again.whole(state.average) for again, state in states]
    facts["repeats"] = differences(*weights) if team.leads else 0.0
    reference = TrainingState(alone.network, training(name), architecture=fingerprint(network))
    take_steps(alone, network, rows, reference)
    facts["weights"] = differences(weights[0], reference.average) if team.leads else 0.0
    facts["loss"] = [sum(team.gather(float(states[0][1].progress.loss))), float(reference.progress.loss)]
    held = sum(t.to_local().numel() if hasattr(t, "to_local") else t.numel() for t in states[0][1].tensors().values())
    facts["held"] = [h / sum(t.numel() for t in reference.tensors().values()) for h in team.gather(held)]
    shares = team.gather([values.nan_to_num(-9.0).tolist() for values in seen])
    whole = [values.nan_to_num(-9.0).tolist() for values in take_steps(alone, network, rows, reference)]
    split = strategy.share.of > 1
    facts["rows once"] = all(
        ([row for share in shares for row in share[number]] if split else shares[0][number]) == batch
        for number, batch in enumerate(whole)
    )
    facts |= checkpoints(name, team, work / name, states[0], network, rows)
    return facts | halvings(name, team, network, rows)


def halvings(name: str, team: Team, network: TabularNetwork, rows: Rows) -> dict[str, object]:
    """After memory ran out so often: how far gradients are from one process's, and the rows each held at once."""
    apart, held = [], []
    for number in range(3):
        spec = Training(batch_rows=200, hidden=(33, 32), parallel=Parallel(strategy=name))
        at_once = halved_rows(spec, number, processes=team.size)
        halved = spec.model_copy(update={"micro_batch_rows": at_once if number else None})
        strategy = choose_strategy(copy.deepcopy(network), halved, team, CPU)
        for size in (101, 200):
            draws = [torch.Generator().manual_seed(7) for _ in range(2)]
            whole = Batch.draw(rows.take(slice(0, size)), network, size=size, share=WHOLE, draws=draws[0])
            wanted = gradients(Alone(copy.deepcopy(network), precision=torch.float32), whole)
            piece = rows.take(strategy.share.piece(size))
            mine = Batch.draw(piece, network, size=size, share=strategy.share, draws=draws[1])
            with counted(strategy.network) as counter:
                found = gradients(strategy, mine, at_once)
            apart.append(differences(found, wanted) if team.leads else 0.0)
        held.append(team.gather(counter.most))
    return {"halved gradients": max(apart), "held at once": held}


def in_bfloat16(name: str, team: Team, network: TabularNetwork, rows: Rows) -> float:
    """How far gradients are from one process's, as a share of the largest."""
    spec = training(name).model_copy(update={"precision": "bfloat16"})
    strategy = choose_strategy(copy.deepcopy(network), spec, team, CPU)
    draws = [torch.Generator().manual_seed(8) for _ in range(2)]
    whole = Batch.draw(rows.take(slice(0, 200)), network, size=200, share=WHOLE, draws=draws[0])
    wanted = gradients(Alone(copy.deepcopy(network), precision=torch.bfloat16), whole)
    piece = rows.take(strategy.share.piece(200))
    found = gradients(strategy, Batch.draw(piece, network, size=200, share=strategy.share, draws=draws[1]))
    largest = max(float(tensor.abs().max()) for tensor in wanted.values())
    return differences(found, wanted) / largest if team.leads else 0.0


class Counter:
    """Rows on their way: they have passed a layer, and their gradient has not come back."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def forth(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.requires_grad:  # a stage first asks for shapes alone
            self.now += len(output)
            self.most = max(self.most, self.now)
            output.register_hook(self.back)

    def back(self, gradient: Tensor) -> None:
        self.now -= len(gradient)


@contextmanager
def counted(network: nn.Module) -> Iterator[Counter]:
    """Inside, rows are counted at this process's first layer."""
    counter, layer = Counter(), next(module for module in network.modules() if isinstance(module, nn.Linear))
    hook = layer.register_forward_hook(counter.forth)
    yield counter
    hook.remove()


def mean_of_shards(
    name: str, team: Team, strategy: Strategy, network: TabularNetwork, rows: Rows, facts: dict[str, object]
) -> None:
    """Against each process's own gradient, computed without the strategy, averaged by hand."""
    if strategy.share.of == 1:
        return
    draws = [torch.Generator().manual_seed(6) for _ in range(2)]
    own = Alone(copy.deepcopy(network), precision=torch.float32)
    mine = [
        Batch.draw(rows.take(strategy.share.piece(200)), network, size=200, share=strategy.share, draws=d)
        for d in draws
    ]
    shard = gradients(own, mine[0])
    for tensor in shard.values():
        tensor.mul_(200 / mine[0].rows.num_rows)
        dist.all_reduce(tensor)
    found = gradients(strategy, mine[1])
    facts["mean of shards"] = differences(found, {k: t / team.size for k, t in shard.items()}) if team.leads else 0.0


def checkpoints(
    name: str, team: Team, work: Path, trained: tuple[Strategy, TrainingState], network: TabularNetwork, rows: Rows
) -> dict[str, object]:
    """What a fresh state takes on: the newest, or the one before a damaged, half-written or foreign one."""
    _, state = trained
    store = ShardedCheckpoints.__new__(ShardedCheckpoints)
    store.objects, store.folder, store.work, store.team = LocalObjects(work / "lake"), "run", work / "work", team
    if team.leads:
        (work / "lake").mkdir(parents=True)
        store.work.mkdir()
    team.gather(None)

    def resumed(damage: Callable[[Path], None] | None = None, architecture: str = state.architecture) -> list[object]:
        if damage is not None and team.leads:
            damage(work / "lake" / "run" / "epoch-000002")
        team.gather(None)
        torch.manual_seed(99)
        fresh = choose_strategy(copy.deepcopy(network), training(name), team, CPU)
        other = TrainingState(fresh.network, training(name), architecture=architecture)
        found = store.resume(other)
        same = all(
            torch.equal(a.to_local() if hasattr(a, "to_local") else a, b.to_local() if hasattr(b, "to_local") else b)
            for a, b in zip(other.tensors().values(), state.tensors().values(), strict=True)
        )
        numbers = (other.steps, other.progress.batches, float(other.progress.loss))
        wanted = (state.steps, state.progress.batches, float(state.progress.loss))
        return [found, len(other.curve), all(team.gather(same)), all(team.gather(numbers == wanted))]

    # average precision falls, so that the best weights stay those of epoch 1
    store.save(state)  # in the midst of epoch 1
    facts: dict[str, object] = {"resumed inside an epoch": resumed()}
    for epoch in (1, 2):
        state.finish_epoch(EpochResult(epoch=epoch, loss=1.0, average_precision=1.0 / epoch))
        store.save(state)
    facts["kept"] = sorted(path.name for path in (work / "lake" / "run").iterdir() if any(path.iterdir()))
    facts["resumed newest"] = resumed()
    facts["resumed foreign"] = resumed(architecture="another")
    facts["resumed damaged"] = resumed(lambda folder: _cut(next(folder.glob("*.distcp"))))
    facts["resumed half-written"] = resumed(lambda folder: (folder / "manifest.json").unlink())
    return facts


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def main() -> None:
    out = Path(sys.argv[1])
    dist.init_process_group("gloo")
    team = Team(rank=dist.get_rank(), size=dist.get_world_size(), local_rank=dist.get_node_local_rank())
    found = {}
    with repeatable(seed=0, threads=1, device=CPU):
        for name in ("data", "sharded", "pipeline", "tensor"):
            found[name] = examine(name, team, out.parent)
    if team.leads:
        out.write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
