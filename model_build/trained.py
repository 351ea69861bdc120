"""Trained networks on disk: weights as a state dict, a pruned structure as JSON, never a pickle of code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from model_build.recipe import Recipe, Splits, example

Role = Literal["teacher", "student", "reference"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of a learning curve; `score` is the recipe's metric on the validation split."""

    epoch: int
    train_loss: float
    validation_loss: float
    score: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network. `score`: the metric on validation; `structure`: the pruning to repeat, if pruned."""

    name: str
    role: Role
    weights: Path
    score: float
    parameters: int
    curve: tuple[Epoch, ...]
    train_s: float
    structure: Path | None = None
    pruned_share: float = 0.0


@dataclass(frozen=True, slots=True)
class DistilResult:
    """The student with and without the teacher's help, and the better of the two."""

    chosen: Trained
    distilled: Trained | None
    plain: Trained


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Students to compress, the most pruned first and the unpruned one last.

    The head of `candidates` is what to export; a later gate that fails backs off down the list.
    `rejected` are those whose validation score is below the teacher's by more than half of the recipe's gate.
    """

    candidates: tuple[Trained, ...]
    rejected: tuple[Trained, ...] = ()


def load(recipe: Recipe, splits: Splits, trained: Trained) -> nn.Module:
    """The network with its weights, on CPU, in eval mode."""
    makers = {"teacher": recipe.teacher, "student": recipe.student, "reference": recipe.reference}
    make = makers[trained.role]
    if make is None:
        raise ValueError(f"recipe {recipe.name} has no {trained.role}")
    network = make()
    if trained.structure is not None:
        import torch_pruning  # slow to import, and needed only for a pruned network

        graph = torch_pruning.DependencyGraph().build_dependency(network, example(splits, 2))
        graph.load_pruning_history(json.loads(trained.structure.read_text()))
    network.load_state_dict(torch.load(trained.weights, map_location="cpu", weights_only=True))
    return network.eval()
