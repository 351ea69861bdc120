"""The very entry point of a training job, in a process of its own, over a folder laid out as /opt/ml."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from model_build.trained import Trained

RECIPE = """
import numpy as np
import torch
from torch import nn
from model_build.recipe import Gates, Guarantee, Recipe, Sample, Split, Splits, TensorSpec, Training

POINT = TensorSpec("point", "FP32", (-1, 4))


def cloud(rows, seed):
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 2, rows).astype(np.int64)
    points = draw.normal(size=(rows, 4)) + 1.5 * targets[:, None]
    return Split((points.astype(np.float32),), targets)


def data():
    test = cloud(200, 4)
    samples = tuple(Sample((test.tensors[0][row],), "ab"[test.targets[row]]) for row in range(10))
    return Splits(cloud(640, 0), cloud(400, 1), cloud(64, 2), cloud(400, 3), test, samples)


def net():
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))


training = Training(epochs=EPOCHS, batch_size=32, learning_rate=1e-2, threads=1)
RECIPE = Recipe(
    name="tiny", task="classification", labels=("a", "b"), inputs=(POINT,), tensors=(POINT,), data=data,
    teacher=net, student=net, teacher_training=training, student_training=training,
    guarantee=Guarantee(epsilon=0.1), gates=Gates(max_drop=0.1),
)
"""
pytestmark = pytest.mark.slow


class Job:
    """One training job's /opt/ml."""

    def __init__(self, folder: Path, epochs: int = 4, **hyperparameters: str) -> None:
        self.root = folder / "ml"
        config = self.root / "input" / "config"
        config.mkdir(parents=True)
        recipe = folder / "tiny.py"
        recipe.write_text(RECIPE.replace("EPOCHS", str(epochs)))
        (config / "hyperparameters.json").write_text(json.dumps({"recipe": str(recipe)} | hyperparameters))
        (config / "resourceconfig.json").write_text('{"current_host": "localhost", "hosts": ["localhost"]}')

    def start(self) -> "subprocess.Popen[str]":
        environment = os.environ | {"TURNOUT_ML_ROOT": str(self.root), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "model_build.remote"],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self) -> tuple[int, str]:
        process = self.start()
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def trained(self, step: str) -> Trained:
        (file,) = self.root.glob(f"model/cache/tiny/{step}-*/result.json")
        return TypeAdapter(Trained).validate_json(file.read_bytes())


def scores(trained: Trained) -> list[tuple[Any, ...]]:
    return [(epoch.epoch, epoch.score, round(epoch.validation_loss, 4)) for epoch in trained.curve]


def test_GivenAJob_WhenItRuns_ThenTheFinishedStepsAreInTheModelFolder(tmp_path: Path) -> None:
    job = Job(tmp_path, teacher_epochs="2")
    code, output = job.run()
    assert code == 0, output
    assert "turnout step=teacher done=1.0000 epoch 2/2  accuracy" in output
    assert [epoch.epoch for epoch in job.trained("teacher").curve] == [1, 2]
    assert list(job.root.glob("model/cache/tiny/prune-*/result.json"))
    assert not (job.root / "output" / "failure").exists()


def test_GivenTwoRanks_WhenTheyTrain_ThenTheAccuracyIsThatOfOne(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, two = Job(tmp_path / "1"), Job(tmp_path / "2", ranks="2")
    for job in (one, two):
        code, output = job.run()
        assert code == 0, output
    assert scores(one.trained("teacher")) == scores(two.trained("teacher"))
    assert one.trained("teacher").score > 0.85


def test_GivenASpotInterruption_WhenTheJobStartsAgain_ThenItResumes(tmp_path: Path) -> None:
    # Given a job that is told to stop in its third epoch
    job = Job(tmp_path, epochs=200)
    process = job.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "step=teacher" in line and "epoch 3/200" in line:
            process.send_signal(signal.SIGTERM)
            break
    stopped = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - stopped < 60
    assert list(job.root.glob("checkpoints/cache/tiny/teacher-*.partial/teacher.checkpoint"))
    # When SageMaker starts it again with the same checkpoints
    code, output = job.run()
    # Then it goes on from the epoch it had finished
    assert code == 0, output
    assert "epoch 1/200" not in output.split("step=teacher seconds")[0]
    assert len(job.trained("teacher").curve) == 200


def test_GivenAnUnknownRecipe_WhenItRuns_ThenTheFailureFileSaysSo(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (job.root / "input/config/hyperparameters.json").write_text('{"recipe": "nothing"}')
    code, _ = job.run()
    assert code == 1
    assert "no recipe 'nothing'; there are digits" in (job.root / "output" / "failure").read_text()
