"""Step 4, prune: whole channels leave the student (Torch-Pruning), and what stays is fine-tuned.

Widths stay multiples of `round_to` (16): on a CPU the alignment matters more than the share removed.
Unstructured pruning is not offered: dense kernels do not skip zeros, so it makes nothing faster.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import torch
import torch_pruning
from torch import nn

from model_build import parallel
from model_build.distil import taught
from model_build.fit import fit
from model_build.lesson import labelled
from model_build.recipe import Pruning, example
from model_build.step import TRAINING_LIBRARIES, Step, Work
from model_build.trained import DistilResult, PruneResult, Trained, load

# The share of the gate's allowed drop that pruning may use up on validation. A pruned network just inside the
# gate there is as likely as not outside it on other data.
SHARE_OF_GATE = 0.5


def remove_channels(
    network: nn.Module, inputs: tuple[torch.Tensor, ...], ratio: float, pruning: Pruning
) -> str:
    """Prunes in place by group L2 magnitude; returns the history that repeats it, as JSON."""
    keep = [module for name, module in network.named_modules() if name in pruning.ignore]
    last = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch-Pruning warns of every parameter outside a known layer
        pruner = torch_pruning.pruner.MagnitudePruner(
            network,
            inputs,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            round_to=pruning.round_to,
            ignored_layers=[*keep, *last],
        )
        pruner.step()
    return json.dumps(pruner.pruning_history())


def prune(work: Work, teacher: Trained, student: DistilResult) -> PruneResult:
    """A fine-tuned candidate at each of the recipe's ratios, most pruned first; the unpruned one last."""
    recipe, chosen = work.recipe, student.chosen
    if recipe.pruning is None:
        return PruneResult((chosen,))
    kept: list[Trained] = []
    rejected: list[Trained] = []
    for ratio in sorted(recipe.pruning.ratios, reverse=True):
        pruned = _one(work, teacher, chosen, recipe.pruning, ratio)
        if pruned.parameters == chosen.parameters:
            continue
        fits = pruned.score >= teacher.score - SHARE_OF_GATE * recipe.gates.max_drop
        (kept if fits else rejected).append(pruned)
    return PruneResult((*kept, chosen), tuple(rejected))


def _one(work: Work, teacher: Trained, chosen: Trained, pruning: Pruning, ratio: float) -> Trained:
    recipe, splits = work.recipe, work.splits
    network = load(recipe, splits, chosen)
    history = remove_channels(network, example(splits, 2), ratio, pruning)
    name = f"pruned-{round(ratio * 100)}"
    structure = work.folder / f"{name}.json"
    structure.write_text(history)
    if recipe.distillation is None:
        lesson = labelled(recipe, splits, pruning.training, parallel.device())
    else:
        lesson = taught(recipe, splits, teacher, pruning.training, recipe.distillation)
    trained = fit(network, lesson, name=name, role="student", folder=work.folder, progress=work.progress)
    share = 1 - trained.parameters / chosen.parameters
    return replace(trained, structure=structure, pruned_share=round(share, 4))


PRUNE = Step(
    "prune",
    prune,
    needs=("teacher", "distil"),
    reads=(
        "teacher", "student", "reference", "distillation", "pruning", "gates",
        "task", "labels", "loss", "metric", "augment", "seed", "name",
    ),
    libraries=TRAINING_LIBRARIES,
)  # fmt: skip
