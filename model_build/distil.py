"""Step 3, distil: the student learns from the teacher's logits, with unlabelled data where there is some.

Loss = w·T²·KL(softmax(teacher/T) ‖ softmax(student/T)) + (1 − w)·loss(labels), after Hinton, Vinyals and
Dean, "Distilling the Knowledge in a Neural Network" (2015); for a regression the first term is the mean
squared distance to the teacher's values. Unlabelled rows have the first term only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from model_build import parallel
from model_build.fit import fit, predict
from model_build.lesson import Lesson, default_loss
from model_build.recipe import Distillation, Recipe, Splits, Training
from model_build.step import TRAINING_LIBRARIES, Step, Work
from model_build.train import seeded
from model_build.trained import DistilResult, Trained, load


def taught(
    recipe: Recipe,
    splits: Splits,
    teacher: Trained,
    training: Training,
    distillation: Distillation,
) -> Lesson:
    """The lesson of following `teacher` on the training rows and any unlabelled ones."""
    device = parallel.device()
    inputs = splits.train.tensors
    if splits.unlabelled is not None:
        inputs = tuple(np.concatenate(pair) for pair in zip(inputs, splits.unlabelled.tensors, strict=True))
    logits = torch.from_numpy(predict(load(recipe, splits, teacher).to(device), inputs)).to(device)
    targets = torch.from_numpy(splits.train.targets).to(device)
    loss = default_loss(recipe)
    weight, heat = distillation.weight, distillation.temperature

    def objective(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        labelled = rows < len(targets)
        own = loss(outputs[labelled], targets[rows[labelled]]) if labelled.any() else outputs.sum() * 0
        return weight * _distance(recipe, outputs, logits[rows], heat) + (1 - weight) * own

    return Lesson(
        inputs, objective, splits.validation, loss, recipe.metric, training, recipe.augment, recipe.seed
    )


def _distance(recipe: Recipe, outputs: torch.Tensor, teacher: torch.Tensor, heat: float) -> torch.Tensor:
    if recipe.task == "regression":
        return functional.mse_loss(outputs, teacher)
    student = functional.log_softmax(outputs / heat, dim=1)
    return (
        heat
        * heat
        * functional.kl_div(
            student, functional.log_softmax(teacher / heat, dim=1), reduction="batchmean", log_target=True
        )
    )


def distil(work: Work, teacher: Trained, plain: Trained) -> DistilResult:
    """The student taught by the teacher beside the one taught by labels alone; the better one goes on."""
    recipe = work.recipe
    if recipe.distillation is None:
        return DistilResult(chosen=plain, distilled=None, plain=plain)
    lesson = taught(recipe, work.splits, teacher, recipe.student_training, recipe.distillation)
    network = seeded(recipe.student, recipe.seed)
    distilled = fit(
        network, lesson, name="distilled", role="student", folder=work.folder, progress=work.progress
    )
    chosen = distilled if distilled.score >= plain.score else plain
    return DistilResult(chosen=chosen, distilled=distilled, plain=plain)


DISTIL = Step(
    "distil",
    distil,
    needs=("teacher", "student"),
    reads=(
        "teacher", "student", "reference", "student_training", "distillation",
        "task", "labels", "loss", "metric", "augment", "seed", "name",
    ),
    libraries=TRAINING_LIBRARIES,
)  # fmt: skip
