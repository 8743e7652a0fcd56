"""A fitted model before it is stored: its members, how they are blended, and the files it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from evergreen.pipeline import Training
from evergreen.training.blend import Blend, fit_blend
from evergreen.training.calibration import Logits
from evergreen.training.dataset import Examples
from evergreen.training.encoders import Encoders
from evergreen.training.export import build_graph, require_equal
from evergreen.training.loop import score
from evergreen.training.network import TabularNetwork
from evergreen.training.recipe import Recipe
from evergreen.training.report import Member, Metrics, measure
from evergreen.training.rows import Rows, Source
from evergreen.training.state import EpochResult
from evergreen.training.stretch import Stretch
from evergreen.training.trees import Trees


@dataclass(frozen=True, kw_only=True)
class FittedNetwork:
    """A network with its best weights, and how it got there."""

    network: TabularNetwork
    curve: tuple[EpochResult, ...]
    best_epoch: int
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Members and their blend."""

    encoders: Encoders
    networks: tuple[TabularNetwork, ...]
    """On the CPU."""
    trees: Trees | None
    blend: Blend
    metrics: Metrics

    @classmethod
    def of(
        cls,
        encoders: Encoders,
        networks: Sequence[FittedNetwork],
        trees: Trees | None,
        validation: Source,
        training: Training,
    ) -> Fitted:
        """The members blended and calibrated on the validation part."""
        by_network = [score(member.network, validation, training.micro_batch_rows) for member in networks]
        by_trees = None if trees is None else trees.logits(encoders, validation)
        labels = validation.labels
        blend = fit_blend(by_network, by_trees, labels)
        members = [
            Member.of(
                "network",
                logits,
                labels,
                weight=blend.networks,
                steps=len(m.curve),
                best=m.best_epoch,
                curve=m.curve,
                stretches=m.stretches,
            )
            for m, logits in zip(networks, by_network, strict=True)
        ]
        if trees is not None and by_trees is not None:
            grown = Member.of("trees", by_trees, labels, weight=blend.trees, steps=trees.grown, best=trees.kept)
            members.append(grown)
        return cls(
            encoders=encoders,
            networks=tuple(member.network.cpu() for member in networks),
            trees=trees,
            blend=blend,
            metrics=measure(members, blend.calibration, labels, blend.probability(by_network, by_trees)),
        )

    def probability(self, rows: Source) -> Logits:
        """float64 [B]: the score of each row, as the members themselves compute it."""
        by_network = [score(network, rows) for network in self.networks]
        return self.blend.probability(
            by_network, None if self.trees is None else self.trees.logits(self.encoders, rows)
        )


def write_model(folder: Path, fitted: Fitted, validation: Examples, recipe: Recipe) -> None:
    """Write every file of the model but its card; the graph must score the validation part as the members do."""
    folder.mkdir(parents=True)
    features = recipe.features
    graph = build_graph(fitted.networks, fitted.trees, fitted.encoders, fitted.blend, features)
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    if fitted.networks:
        save_file(_weights(fitted.networks), folder / "weights.safetensors")
    if fitted.trees is not None:
        (folder / "trees.txt").write_text(fitted.trees.text)
    (folder / "signature.json").write_text(features.model_dump_json())
    (folder / "config.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "metrics.json").write_text(fitted.metrics.model_dump_json(indent=2))
    wanted = fitted.probability(Rows.on(torch.device("cpu"), fitted.encoders.encode(validation)))
    require_equal(folder / "model.onnx", validation, features, wanted, threads=recipe.training.threads)


def _weights(networks: Sequence[TabularNetwork]) -> dict[str, torch.Tensor]:
    """Parameters and tables of every network; those after the first by `member-<number>.` in front."""
    return {
        name if number == 0 else f"member-{number}.{name}": tensor
        for number, network in enumerate(networks)
        for name, tensor in network.state_dict().items()
    }
