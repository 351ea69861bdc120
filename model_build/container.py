"""SageMaker's training container contract: where things are under /opt/ml, who trains, with what settings.

The training toolkit of Amazon's own images says it by `SM_*` variables; in any other image the files under
/opt/ml/input/config say the same. Variables win.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlers.errors import InvalidConfig
from model_build.recipe import Recipe, Training

UNTIL = ("training", "release")


@dataclass(frozen=True, slots=True)
class Container:
    """Folders and hosts of one training job; `data` is None where the job has no training channel."""

    model_dir: Path
    checkpoints: Path
    failure: Path
    data: Path | None
    hosts: tuple[str, ...]
    current_host: str
    hyperparameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the job's hyperparameters ask for; None leaves the recipe as it is.

    `until`: `training` stops before compression, `release` goes on to a whole release. `ranks`: training
    processes on each host (None: one for each GPU, or one).
    """

    recipe: str
    until: str = "training"
    ranks: int | None = None
    seed: int | None = None
    teacher_epochs: int | None = None
    student_epochs: int | None = None


def read(environment: Mapping[str, str]) -> Container:
    """The contract as this container has it; `TURNOUT_ML_ROOT` stands for /opt/ml where it is elsewhere."""
    root = Path(environment.get("TURNOUT_ML_ROOT", "/opt/ml"))
    config = root / "input" / "config"
    resources = _json(config / "resourceconfig.json")
    hosts = json.loads(environment.get("SM_HOSTS", "null")) or resources.get("hosts") or ["localhost"]
    channel = Path(environment.get("SM_CHANNEL_TRAINING") or root / "input" / "data" / "training")
    given = environment.get("SM_HPS")
    return Container(
        model_dir=Path(environment.get("SM_MODEL_DIR") or root / "model"),
        checkpoints=root / "checkpoints",
        failure=root / "output" / "failure",
        data=channel if channel.is_dir() else None,
        hosts=tuple(hosts),
        current_host=environment.get("SM_CURRENT_HOST") or resources.get("current_host") or hosts[0],
        hyperparameters=json.loads(given) if given else _json(config / "hyperparameters.json"),
    )


def settings(hyperparameters: Mapping[str, Any]) -> Settings:
    """Typed hyperparameters; they arrive as strings, some of them JSON. Raises InvalidConfig by name."""
    known = Settings.__dataclass_fields__
    values: dict[str, Any] = {}
    for name, raw in hyperparameters.items():
        if name.startswith("sagemaker_"):
            continue
        if name not in known:
            raise InvalidConfig(f"hyperparameters.{name}", raw, "one of " + ", ".join(known))
        values[name] = _plain(raw) if name in ("recipe", "until") else _whole(name, raw)
    if "recipe" not in values:
        raise InvalidConfig("hyperparameters.recipe", None, "the name of a recipe")
    chosen = Settings(**values)
    if chosen.until not in UNTIL:
        raise InvalidConfig("hyperparameters.until", chosen.until, "one of " + ", ".join(UNTIL))
    return chosen


def applied(recipe: Recipe, asked: Settings) -> Recipe:
    """The recipe with the settings that were asked for."""

    def epochs(training: Training, count: int | None) -> Training:
        return training if count is None else replace(training, epochs=count)

    return replace(
        recipe,
        seed=recipe.seed if asked.seed is None else asked.seed,
        teacher_training=epochs(recipe.teacher_training, asked.teacher_epochs),
        student_training=epochs(recipe.student_training, asked.student_epochs),
    )


def _plain(raw: object) -> str:
    text = str(raw)
    return str(json.loads(text)) if text.startswith('"') else text


def _whole(name: str, raw: object) -> int:
    text = _plain(raw)
    if not text.isdecimal() or (int(text) == 0 and name != "seed"):
        raise InvalidConfig(f"hyperparameters.{name}", raw, "a whole number above 0")
    return int(text)


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found
