import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handlers.errors import BuildError
from model_build import data, train
from model_build.fit import predict
from model_build.metric import R2
from model_build.recipe import Recipe, Sample, Split, Splits, TensorSpec, Training
from model_build.step import Work
from model_build.trained import Trained, load


def work_for(recipe: Recipe, folder: Path, progress: Callable[[float, str], None] | None = None) -> Work:
    folder.mkdir(exist_ok=True)
    splits = data.load(recipe)
    return Work(recipe, splits, folder, progress) if progress else Work(recipe, splits, folder)


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(trained.weights, weights_only=True)
    return loaded


def same(one: Trained, other: Trained) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values(), strict=True))


def test_GivenARecipe_WhenTrained_ThenItLearnsAndKeepsItsCurve(tiny: Recipe, tmp_path: Path) -> None:
    work = work_for(tiny, tmp_path)
    trained = train.train_teacher(work)
    outputs = predict(load(tiny, work.splits, trained), work.splits.test.tensors)
    assert tiny.metric.score(outputs, work.splits.test.targets) > 0.85
    assert [epoch.epoch for epoch in trained.curve] == [1, 2, 3, 4]
    assert trained.curve[-1].train_loss < trained.curve[0].train_loss
    assert trained.score == max(epoch.score for epoch in trained.curve)


def test_GivenOneSeed_WhenTrainedTwice_ThenTheWeightsAreTheSame(tiny: Recipe, tmp_path: Path) -> None:
    first = train.train_teacher(work_for(tiny, tmp_path / "1"))
    again = train.train_teacher(work_for(tiny, tmp_path / "2"))
    other = train.train_teacher(work_for(replace(tiny, seed=1), tmp_path / "3"))
    assert same(first, again)
    assert not same(first, other)


def _train_and_die(recipe: Recipe, folder: Path) -> None:
    def die(share: float, _text: str) -> None:
        if share >= 0.5:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    train.train_teacher(work_for(recipe, folder, die))


def test_GivenAKilledTraining_WhenRunAgain_ThenItGoesOnAndEndsTheSame(tiny: Recipe, tmp_path: Path) -> None:
    # Given a training killed without warning after its second epoch
    child = multiprocessing.get_context("fork").Process(
        target=_train_and_die, args=(tiny, tmp_path / "killed")
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert list((tmp_path / "killed").glob("*.checkpoint"))
    # When it is run again
    seen: list[float] = []
    resumed = train.train_teacher(
        work_for(tiny, tmp_path / "killed", lambda share, _text: seen.append(share))
    )
    # Then only the rest is trained, to the very weights of an undisturbed run
    assert seen == [0.75, 1.0]
    assert len(resumed.curve) == 4
    assert same(resumed, train.train_teacher(work_for(tiny, tmp_path / "whole")))
    assert not list((tmp_path / "killed").glob("*.checkpoint"))


def test_GivenNoProgress_WhenTrained_ThenItStopsEarly(tiny: Recipe, tmp_path: Path) -> None:
    still = Training(epochs=30, learning_rate=1e-12, patience=3, schedule="constant")
    trained = train.train_teacher(work_for(replace(tiny, teacher_training=still), tmp_path))
    assert len(trained.curve) < 30


def _explode(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs.sum() * 0 + 1).log() / 0 * torch.nan if len(targets) else outputs.sum()


def test_GivenALossThatIsNotANumber_WhenTrained_ThenTheBatchIsNamed(tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"teacher: the loss is nan in epoch 1, batch 1 of 10 \(rows \["):
        train.train_teacher(work_for(replace(tiny, loss=_explode), tmp_path))
    assert not list(tmp_path.iterdir())


class _Mute(torch.nn.Module):
    def forward(self, point: torch.Tensor) -> torch.Tensor:
        return point[:, :3]


class _Narrow(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(7, 2)

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(point)
        return outputs


@pytest.mark.parametrize(
    ("piece", "made", "said"),
    [
        ("teacher", _Mute, r"the teacher returns \[2, 3\] for point \[2, 4\]; \[2, 2\] is needed"),
        ("student", _Narrow, r"the student cannot take point \[2, 4\]: mat1 and mat2"),
    ],
)
def test_GivenShapesThatDoNotFit_WhenChecked_ThenTheErrorNamesThem(
    tiny: Recipe, piece: str, made: Any, said: str
) -> None:
    with pytest.raises(BuildError, match=said):
        train.check_networks(replace(tiny, **{piece: made}), data.load(tiny))


def _line() -> Splits:
    def rows(count: int, seed: int) -> Split:
        points = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
        return Split((points,), points @ np.float32([[1, 0], [-2, 1], [0, 0.5], [0, 0]]))

    test = rows(50, 9)
    samples = tuple(Sample((test.tensors[0][i],), tuple(test.targets[i].tolist())) for i in range(10))
    return Splits(rows(300, 0), rows(60, 1), rows(40, 2), rows(60, 3), test, samples)


def test_GivenARegression_WhenTrained_ThenTheSquaredErrorFalls(tiny: Recipe, tmp_path: Path) -> None:
    training = Training(epochs=20, batch_size=32, learning_rate=2e-2)
    recipe = replace(
        tiny, task="regression", labels=(), metric=R2, data=_line, teacher_training=training,
        inputs=(TensorSpec("point", "FP32", (-1, 4)),),
    )  # fmt: skip
    work = work_for(recipe, tmp_path)
    train.check_networks(recipe, work.splits)
    trained = train.train_teacher(work)
    assert trained.score > 0.95
    assert trained.curve[-1].validation_loss < 0.2 * trained.curve[0].validation_loss
