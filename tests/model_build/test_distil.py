from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_build import data, train
from model_build.distil import distil, taught
from model_build.fit import predict
from model_build.metric import R2
from model_build.recipe import Distillation, Recipe, Sample, Split, Splits, TensorSpec, Training
from model_build.step import Work
from model_build.trained import load


@pytest.fixture
def work(tiny: Recipe, tmp_path: Path) -> Work:
    return Work(tiny, data.load(tiny), tmp_path)


def test_GivenATeacher_WhenDistilled_ThenBothStudentsAreToldAndTheBetterGoesOn(work: Work) -> None:
    teacher, plain = train.train_teacher(work), train.train_student(work)
    result = distil(work, teacher, plain)
    assert result.distilled is not None
    assert result.plain == plain
    assert result.chosen.score == max(plain.score, result.distilled.score)
    assert result.distilled.weights != plain.weights


def test_GivenNoDistillation_WhenDistilled_ThenThePlainStudentGoesOn(work: Work) -> None:
    alone = replace(work, recipe=replace(work.recipe, distillation=None))
    plain = train.train_student(alone)
    assert distil(alone, train.train_teacher(alone), plain).chosen == plain


def test_GivenFewLabelsAndUnlabelledRows_WhenDistilled_ThenTheStudentFollowsTheTeacherThere(
    tiny: Recipe, work: Work
) -> None:
    # Given a student that sees 16 labels, and 304 rows without
    teacher = train.train_teacher(work)
    train_split = work.splits.train
    few = replace(
        work.splits,
        train=train_split.take(slice(0, 16)),
        unlabelled=Split((train_split.tensors[0][16:],), np.empty(0, np.int64)),
    )
    poor = replace(work, splits=few, recipe=replace(tiny, distillation=Distillation(2.0, 0.9)))
    # When it is taught
    lesson = taught(poor.recipe, few, teacher, tiny.student_training, Distillation(2.0, 0.9))
    result = distil(poor, teacher, train.train_student(poor))
    # Then it learns from every row and agrees with the teacher more than the one taught by labels alone
    assert len(lesson.inputs[0]) == 320
    assert result.distilled is not None
    tensors = few.test.tensors
    wanted = predict(load(tiny, few, teacher), tensors).argmax(axis=1)

    def agreement(name: str) -> float:
        trained = {"distilled": result.distilled, "plain": result.plain}[name]
        assert trained is not None
        return float(np.mean(predict(load(tiny, few, trained), tensors).argmax(axis=1) == wanted))

    assert agreement("distilled") > agreement("plain")


def test_GivenRowsWithAndWithoutLabels_WhenTaught_ThenTheLossIsThatOfTheFormula(
    tiny: Recipe, work: Work
) -> None:
    teacher = train.train_teacher(work)
    heat, weight = 2.0, 0.25
    lesson = taught(tiny, work.splits, teacher, tiny.student_training, Distillation(heat, weight))
    rows = torch.arange(5)
    outputs = torch.randn((5, 2), generator=torch.Generator().manual_seed(0))
    logits = torch.from_numpy(predict(load(tiny, work.splits, teacher), (work.splits.train.tensors[0][:5],)))
    wanted, had = (logits / heat).softmax(1), (outputs / heat).softmax(1)
    distance = (wanted * (wanted / had).log()).sum(1).mean()
    labels = nn.functional.cross_entropy(outputs, torch.from_numpy(work.splits.train.targets[:5]))
    expected = weight * heat**2 * distance + (1 - weight) * labels
    assert float(lesson.objective(outputs, rows)) == pytest.approx(float(expected), rel=1e-5)


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.layer(point)
        return values


def _slope() -> Splits:
    def rows(count: int, seed: int) -> Split:
        points = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
        return Split((points,), points[:, :1] - 2 * points[:, 1:2])

    test = rows(50, 9)
    samples = tuple(Sample((test.tensors[0][i],), tuple(test.targets[i].tolist())) for i in range(10))
    return Splits(rows(300, 0), rows(60, 1), rows(40, 2), rows(60, 3), test, samples)


def test_GivenARegression_WhenDistilled_ThenTheStudentFollowsTheTeachersValues(
    tiny: Recipe, tmp_path: Path
) -> None:
    training = Training(epochs=20, batch_size=32, learning_rate=3e-2)
    recipe = replace(
        tiny, task="regression", labels=(), metric=R2, data=_slope, teacher=_Line, student=_Line,
        inputs=(TensorSpec("point", "FP32", (-1, 4)),), teacher_training=training, student_training=training,
        distillation=Distillation(weight=1.0),
    )  # fmt: skip
    work = Work(recipe, data.load(recipe), tmp_path)
    result = distil(work, train.train_teacher(work), train.train_student(work))
    assert result.distilled is not None
    assert result.distilled.score > 0.85
