import io
import re
import tarfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from handlers.errors import BuildError, InvalidConfig
from model_build import data, launch, pipeline
from model_build.cache import Cache
from model_build.recipe import Recipe
from model_build.steps import TRAINING

TODAY = date(2026, 11, 24)
SPEC = launch.JobSpec("digits", "arn:aws:iam::123456789012:role/t", "bucket", "eu-west-1")


def test_GivenASpec_WhenAsked_ThenTheJobHasImageCheckpointsAndMetrics() -> None:
    job = launch.request(replace(SPEC, spot=True, data="s3://d/mnist"), TODAY)
    assert ".eu-west-1.amazonaws.com/pytorch:2.13" in job["training_image"]
    assert job["compute"]["enable_managed_spot_training"] is True
    assert job["stopping_condition"] == {"max_runtime_in_seconds": 3600, "max_wait_time_in_seconds": 7200}
    assert job["checkpoint_config"]["local_path"] == "/opt/ml/checkpoints"
    assert job["channels"] == {"training": "s3://d/mnist"}
    line = "turnout step=teacher done=0.5000 epoch 2/4  accuracy 0.9912"
    found = re.search(job["metrics"]["teacher:score"], line)
    assert found is not None
    assert found[1] == "0.9912"


@pytest.mark.parametrize(
    ("spec", "today", "said"),
    [
        (replace(SPEC, instance_type="g5.xlarge"), TODAY, "--instance: 'g5.xlarge' is not allowed"),
        (replace(SPEC, spot=True, max_wait_s=60), TODAY, "max_wait_s: 60 is not allowed"),
        (SPEC, date(2027, 8, 1), "ours is unpatched since 2027-07-20"),
    ],
)
def test_GivenAJobThatCannotRun_WhenAsked_ThenItIsRefused(
    spec: launch.JobSpec, today: date, said: str
) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(said)):
        launch.request(spec, today)


def test_GivenTheProject_WhenStaged_ThenTheContainerHasItsCodeAndPins(tmp_path: Path) -> None:
    launch.stage_code("digits", tmp_path)
    assert (tmp_path / "model_build" / "remote.py").is_file()
    assert "torch-pruning==" in (tmp_path / "requirements.txt").read_text()


def packed(folder: Path, prefix: str = "cache") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add(folder, prefix)
    return out.getvalue()


@pytest.mark.slow
def test_GivenWhatAJobLeft_WhenTakenIn_ThenTheStepsAreCachedHere(tiny: Recipe, tmp_path: Path) -> None:
    splits = data.load(tiny)
    there, here = tmp_path / "there", tmp_path / "here"
    job = Cache(there / "tiny")
    pipeline.run(tiny, splits, pipeline.plan(tiny, splits, TRAINING, job), job)
    assert launch.take_in(packed(there), here) == len(TRAINING)
    planned = pipeline.plan(tiny, splits, TRAINING, Cache(here / "tiny"))
    launch.check_taken(planned, tuple(step.name for step in TRAINING))
    other = pipeline.plan(replace(tiny, seed=9), splits, TRAINING, Cache(here / "tiny"))
    with pytest.raises(BuildError, match=r"the job's teacher, .* came from another recipe"):
        launch.check_taken(other, ("teacher", "student"))


@pytest.mark.parametrize(
    ("archive", "said"), [(b"not a tar", "cannot be unpacked"), (b"", "cannot be unpacked")]
)
def test_GivenADamagedArchive_WhenTakenIn_ThenItIsRefused(archive: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=said):
        launch.take_in(archive, tmp_path)


def test_GivenAMemberThatLeavesTheFolder_WhenTakenIn_ThenItIsRefused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(BuildError, match="cannot be unpacked"):
        launch.take_in(packed(tmp_path / "x", "cache/../../x"), tmp_path / "here")


def test_GivenARecipeOfOnesOwn_WhenStaged_ThenItsFileGoesAlongAndTheJobNamesIt(tmp_path: Path) -> None:
    recipe = tmp_path / "own_model.py"
    recipe.write_text("RECIPE = 1")
    code = tmp_path / "code"
    code.mkdir()
    launch.stage_code(str(recipe), code)
    job = launch.request(replace(SPEC, recipe=str(recipe)), TODAY)
    assert (code / job["hyperparameters"]["recipe"]).read_text() == "RECIPE = 1"
    assert job["base_job_name"] == "turnout-own-model"
