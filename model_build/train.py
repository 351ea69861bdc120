"""Step 2, train: teacher, student and reference on labelled data, each as its recipe says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from handlers.errors import BuildError
from model_build import parallel
from model_build.fit import fit
from model_build.lesson import labelled
from model_build.recipe import Recipe, Splits, Training, example
from model_build.step import TRAINING_LIBRARIES, Step, Work
from model_build.trained import Role, Trained


def check_networks(recipe: Recipe, splits: Splits) -> None:
    """Runs each network on two examples. Raises BuildError when inputs or outputs do not fit."""
    inputs = example(splits, 2)
    width = len(recipe.labels) if recipe.task == "classification" else splits.train.targets.shape[1]
    for role, make in (
        ("teacher", recipe.teacher),
        ("student", recipe.student),
        ("reference", recipe.reference),
    ):
        if make is None:
            continue
        shapes = ", ".join(
            f"{spec.name} {list(t.shape)}" for spec, t in zip(recipe.tensors, inputs, strict=True)
        )
        try:
            with torch.no_grad():
                outputs = make().eval()(*inputs)
        except (RuntimeError, TypeError, IndexError) as error:
            raise BuildError(f"recipe {recipe.name}: the {role} cannot take {shapes}: {error}") from error
        if tuple(outputs.shape) != (2, width):
            raise BuildError(
                f"recipe {recipe.name}: the {role} returns {list(outputs.shape)} for {shapes}; "
                f"[2, {width}] is needed ({recipe.task})"
            )


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights follow from `seed`."""
    torch.manual_seed(seed)
    return make()


def _train(work: Work, make: Callable[[], nn.Module], training: Training, role: Role) -> Trained:
    lesson = labelled(work.recipe, work.splits, training, parallel.device())
    network = seeded(make, work.recipe.seed)
    return fit(network, lesson, name=role, role=role, folder=work.folder, progress=work.progress)


def train_teacher(work: Work) -> Trained:
    """The large network, which becomes the gpu variant."""
    return _train(work, work.recipe.teacher, work.recipe.teacher_training, "teacher")


def train_student(work: Work) -> Trained:
    """The small network on labels alone: what distillation has to beat."""
    return _train(work, work.recipe.student, work.recipe.student_training, "student")


def train_reference(work: Work) -> Trained | None:
    """The recipe's reference network as a textbook trains it, without augmentation, for a row of its own."""
    if work.recipe.reference is None:
        return None
    training = work.recipe.reference_training or work.recipe.student_training
    plain = replace(work, recipe=replace(work.recipe, augment=None))
    return _train(plain, work.recipe.reference, training, "reference")


_ALWAYS = ("task", "labels", "loss", "metric", "augment", "seed")
TEACHER = Step(
    "teacher", train_teacher, reads=("teacher", "teacher_training", *_ALWAYS), libraries=TRAINING_LIBRARIES
)
STUDENT = Step(
    "student", train_student, reads=("student", "student_training", *_ALWAYS), libraries=TRAINING_LIBRARIES
)
REFERENCE = Step(
    "reference",
    train_reference,
    reads=("reference", "reference_training", "student_training", *_ALWAYS),
    libraries=TRAINING_LIBRARIES,
)
