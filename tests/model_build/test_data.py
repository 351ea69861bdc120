from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import BuildError
from model_build import data
from model_build.recipe import Recipe, Sample, Split, Splits


@given(rows=st.integers(10, 300), seed=st.integers(0, 9), first=st.integers(1, 4), second=st.integers(1, 4))
def test_GivenAnySizes_WhenCut_ThenEveryRowIsInExactlyOnePart(
    rows: int, seed: int, first: int, second: int
) -> None:
    parts = data.cut(rows, seed, {"a": first, "b": second})
    assert (len(parts["a"]), len(parts["b"])) == (first, second)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(rows))


def test_GivenSizesThatLeaveNothing_WhenCut_ThenItIsRefused() -> None:
    with pytest.raises(BuildError, match="need more than the 10 examples"):
        data.cut(10, 0, {"a": 6, "b": 4})


def test_GivenSoundData_WhenLoaded_ThenItsHashIsThatOfItsContent(tiny: Recipe) -> None:
    first, again = data.load(tiny), data.load(tiny)
    assert data.fingerprint(first) == data.fingerprint(again)
    first.train.tensors[0][3, 2] += 1e-6
    assert data.fingerprint(first) != data.fingerprint(again)


def spoilt(splits: Splits, name: str) -> tuple[Splits, str]:
    points, targets = splits.train.tensors[0], splits.train.targets

    def with_train(points: Any = points, targets: Any = targets) -> Splits:
        return replace(splits, train=Split((points,), targets))

    holes = points.copy()
    holes[5, 1] = np.nan
    beyond = targets.copy()
    beyond[7] = 2
    below = targets.copy()
    below[0] = -1
    cases = {
        "nan": (with_train(holes), "data: train: point: NaN or infinity in 1 rows, the first is row 5"),
        "beyond": (with_train(targets=beyond), "target 2 in row 7 is out of range; the recipe has 2 labels"),
        "below": (with_train(targets=below), "target -1 in row 0 is out of range"),
        "dtype": (with_train(points.astype(np.float64)), "dtype is float64, the recipe says FP32"),
        "shape": (with_train(points[:, :3]), "shape is [320, 3], the recipe says [-1, 4]"),
        "axes": (with_train(points[..., None]), "shape is [320, 4, 1], the recipe says [-1, 4]"),
        "targets": (with_train(targets=targets[:5]), "5 targets for 320 examples"),
        "classes": (with_train(targets=targets.astype(np.float32)), "int64 [N] is needed"),
        "empty": (with_train(points[:0], targets[:0]), "data: train: empty"),
        "tensors": (replace(splits, test=Split((points, points), targets)), "test: 2 tensors"),
        "few": (replace(splits, samples=splits.samples[:3]), "samples: 3 given, at least 10"),
        "sample": (
            replace(splits, samples=(Sample((b"x",), "a"), *splits.samples)),
            "sample 0: point: a bytes does not fit dtype FP32",
        ),
        "inputs": (replace(splits, samples=(Sample((), "a"), *splits.samples)), "sample 0: 0 inputs"),
        "label": (
            replace(splits, samples=(Sample((points[0],), "c"), *splits.samples)),
            "sample 0: label 'c' is not one of the recipe's labels",
        ),
    }
    return cases[name]


@pytest.mark.parametrize(
    "name",
    ["nan", "beyond", "below", "dtype", "shape", "axes", "targets", "classes", "empty", "tensors", "few",
     "sample", "inputs", "label"],
)  # fmt: skip
def test_GivenSpoiltData_WhenLoaded_ThenTheErrorNamesSplitAndRow(tiny: Recipe, name: str) -> None:
    splits, said = spoilt(tiny.data(), name)
    with pytest.raises(BuildError) as caught:
        data.load(replace(tiny, data=lambda: splits))
    assert said in str(caught.value)


def test_GivenAVocabularyThatIsNotThere_WhenLoaded_ThenItIsRefused(tiny: Recipe) -> None:
    with pytest.raises(BuildError, match=r"names 'cpu/vocab.txt', which is not among the files"):
        data.load(replace(tiny, preprocess={"kind": "text", "vocabulary": "cpu/vocab.txt"}))


def test_GivenARegressionWithClasses_WhenLoaded_ThenItIsRefused(tiny: Recipe) -> None:
    with pytest.raises(BuildError, match=r"a regression needs float32 \[N, D\]"):
        data.load(replace(tiny, task="regression", labels=()))
