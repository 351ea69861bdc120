from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_build import data, train
from model_build.distil import distil
from model_build.fit import predict
from model_build.prune import prune
from model_build.recipe import Gates, Pruning, Recipe, Training
from model_build.step import Work
from model_build.trained import DistilResult, PruneResult, Trained, load

pytestmark = pytest.mark.slow

QUICK = Training(epochs=2, batch_size=32, learning_rate=5e-3)


class Wide(nn.Module):
    """Two hidden layers of 64, one of them shared by a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 64)
        self.inner = nn.Linear(64, 64)
        self.head = nn.Linear(64, 2)

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        hidden = self.first(point).relu()
        logits: torch.Tensor = self.head(hidden + self.inner(hidden).relu())
        return logits


def pruned(recipe: Recipe, folder: Path) -> tuple[Work, PruneResult]:
    work = Work(recipe, data.load(recipe), folder)
    teacher = train.train_teacher(work)
    student: DistilResult = distil(work, teacher, train.train_student(work))
    return work, prune(work, teacher, student)


@pytest.fixture
def wide(tiny: Recipe) -> Recipe:
    return replace(tiny, student=Wide, pruning=Pruning(ratios=(0.25, 0.5), training=QUICK))


def widths(trained: Trained) -> list[tuple[int, ...]]:
    state = torch.load(trained.weights, weights_only=True)
    return [tuple(value.shape) for name, value in state.items() if name.endswith("weight")]


def test_GivenRatios_WhenPruned_ThenCandidatesGoFromTheSmallestToTheWhole(
    wide: Recipe, tmp_path: Path
) -> None:
    _, result = pruned(wide, tmp_path)
    sizes = [candidate.parameters for candidate in result.candidates]
    assert sizes == sorted(sizes)
    assert len(sizes) == 3
    assert result.candidates[-1].structure is None
    assert widths(result.candidates[0]) == [(32, 4), (32, 32), (2, 32)]
    assert 0.5 < result.candidates[0].pruned_share < 0.9


def test_GivenAPrunedStudent_WhenLoadedAgain_ThenItAnswersAsItDid(wide: Recipe, tmp_path: Path) -> None:
    work, result = pruned(wide, tmp_path)
    candidate = result.candidates[0]
    outputs = predict(load(wide, work.splits, candidate), work.splits.validation.tensors)
    assert wide.metric.score(outputs, work.splits.validation.targets) == pytest.approx(candidate.score)
    again = predict(load(wide, work.splits, candidate), work.splits.validation.tensors)
    np.testing.assert_array_equal(outputs, again)


def test_GivenARatioThatRemovesNothing_WhenPruned_ThenThereIsNoSuchCandidate(
    wide: Recipe, tmp_path: Path
) -> None:
    slight = replace(wide, pruning=Pruning(ratios=(0.0,), training=QUICK))
    _, result = pruned(slight, tmp_path)
    assert [candidate.structure for candidate in result.candidates] == [None]


def test_GivenAGateThatPruningFails_WhenPruned_ThenItIsPutAside(wide: Recipe, tmp_path: Path) -> None:
    hard = replace(
        wide,
        gates=Gates(max_drop=-1.0),  # nothing can be better than the whole by a full point
        pruning=Pruning(ratios=(0.5,), training=QUICK),
    )
    _, result = pruned(hard, tmp_path)
    assert [candidate.structure for candidate in result.candidates] == [None]
    assert [candidate.name for candidate in result.rejected] == ["pruned-50"]


def test_GivenNoPruning_WhenPruned_ThenTheStudentIsTheOnlyCandidate(tiny: Recipe, tmp_path: Path) -> None:
    _, result = pruned(replace(tiny, pruning=None), tmp_path)
    assert len(result.candidates) == 1


def test_GivenLayersToLeave_WhenPruned_ThenTheirWidthStays(wide: Recipe, tmp_path: Path) -> None:
    leave = replace(wide, pruning=Pruning(ratios=(0.5,), training=QUICK, ignore=("first", "inner")))
    _, result = pruned(leave, tmp_path)
    assert [candidate.structure for candidate in result.candidates] == [None]
