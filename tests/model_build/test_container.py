import json
from dataclasses import replace
from pathlib import Path

import pytest

from handlers.errors import InvalidConfig
from model_build import container, remote
from model_build.container import Settings
from model_build.recipe import Recipe


def test_GivenTheToolkitsVariables_WhenRead_ThenTheyWin(tmp_path: Path) -> None:
    (tmp_path / "ch").mkdir()
    found = container.read(
        {
            "TURNOUT_ML_ROOT": str(tmp_path),
            "SM_MODEL_DIR": "/m",
            "SM_CHANNEL_TRAINING": str(tmp_path / "ch"),
            "SM_HOSTS": '["algo-1", "algo-2"]',
            "SM_CURRENT_HOST": "algo-2",
            "SM_HPS": '{"recipe": "digits"}',
        }
    )
    assert (found.model_dir, found.data) == (Path("/m"), tmp_path / "ch")
    assert (found.hosts, found.current_host) == (("algo-1", "algo-2"), "algo-2")
    assert found.hyperparameters == {"recipe": "digits"}


def test_GivenNoVariables_WhenRead_ThenTheFilesUnderOptMlSayTheSame(tmp_path: Path) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text('{"recipe": "mnist", "seed": "3"}')
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    found = container.read({"TURNOUT_ML_ROOT": str(tmp_path)})
    assert found.model_dir == tmp_path / "model"
    assert found.checkpoints == tmp_path / "checkpoints"
    assert found.data is None
    assert found.hosts == ("algo-1",)
    assert container.settings(found.hyperparameters) == Settings("mnist", seed=3)


def test_GivenHyperparametersAsTheSdkSendsThem_WhenParsed_ThenTheyAreTyped() -> None:
    sent = {"recipe": '"digits"', "until": "release", "teacher_epochs": "3", "sagemaker_region": '"x"'}
    assert container.settings(sent) == Settings("digits", "release", teacher_epochs=3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "hyperparameters.recipe: None is not allowed; allowed: the name of a recipe"),
        (
            {"recipe": "x", "epochs": "3"},
            "hyperparameters.epochs: '3' is not allowed; allowed: one of recipe,",
        ),
        (
            {"recipe": "x", "until": "noon"},
            "hyperparameters.until: 'noon' is not allowed; allowed: one of tra",
        ),
        ({"recipe": "x", "seed": "-1"}, "hyperparameters.seed: '-1' is not allowed; allowed: a whole number"),
        ({"recipe": "x", "ranks": "0"}, "hyperparameters.ranks: '0' is not allowed"),
        ({"recipe": "x", "teacher_epochs": "many"}, "hyperparameters.teacher_epochs: 'many' is not allowed"),
    ],
)
def test_GivenABadHyperparameter_WhenParsed_ThenItIsNamed(given: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        container.settings(given)
    assert said in str(caught.value)


def test_GivenSettings_WhenApplied_ThenOnlyWhatTheyNameChanges(tiny: Recipe) -> None:
    changed = container.applied(tiny, Settings("tiny", seed=5, student_epochs=1))
    assert changed == replace(tiny, seed=5, student_training=replace(tiny.student_training, epochs=1))


def test_GivenTwoHosts_WhenStarted_ThenTorchrunJoinsThemAtTheFirst(tmp_path: Path) -> None:
    here = container.read(
        {"TURNOUT_ML_ROOT": str(tmp_path), "SM_HOSTS": json.dumps(["a", "b"]), "SM_CURRENT_HOST": "b"}
    )
    command = remote.torchrun(here, 4)
    assert {"--nnodes=2", "--nproc-per-node=4", "--node-rank=1", "--master-addr=a"} <= set(command)
    assert command[-2:] == ["-m", "model_build.remote"]
