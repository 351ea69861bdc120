"""A training job on SageMaker, from a laptop: what is asked (pure), the launch, and what comes back.

The job trains; this machine then takes the finished steps into its cache and goes on to the release. The
SageMaker SDK (0.6 GB) lives in an environment of its own, see model_build.tool_environment, and is imported
only in model_build.launch_worker.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from handlers.errors import BuildError, InvalidConfig
from model_build import launch_worker, pipeline
from model_build.sources import ROOT

IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker"
IMAGE_PATCHED_UNTIL = date(2027, 7, 20)
METRICS = {
    f"{step}:score": rf"turnout step={step} done=\S+ epoch \S+\s+\S+ ([0-9.]+)"
    for step in ("teacher", "student", "reference", "distil", "prune")
}
CODE = ("handlers", "model_build", "pyproject.toml", "constraints.txt")
REQUIREMENTS = ("torch-pruning", "scikit-learn", "onnx", "onnxruntime", "onnxscript", "pydantic")


SDK = ("sagemaker-train==1.27.0", "sagemaker-core==2.27.0")


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished job: its name, its model.tar.gz, and the last value of each metric."""

    job: str
    uri: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job. `recipe`: a name, or a recipe's .py file. `data`: a folder or s3:// URI for the training
    channel, None if the recipe brings its own.
    """

    recipe: str
    role_arn: str
    bucket: str
    region: str
    instance_type: str = "ml.g5.xlarge"
    instances: int = 1
    spot: bool = False
    max_runtime_s: int = 3600
    max_wait_s: int = 7200
    image: str | None = None
    data: str | None = None


def request(spec: JobSpec, today: date) -> dict[str, Any]:
    """The job as plain values. Raises InvalidConfig for what SageMaker would refuse, or a stale image."""
    if not spec.instance_type.startswith("ml."):
        raise InvalidConfig("--instance", spec.instance_type, "a SageMaker type such as ml.g5.xlarge")
    if spec.spot and spec.max_wait_s < spec.max_runtime_s:
        raise InvalidConfig("max_wait_s", spec.max_wait_s, f"at least max_runtime_s ({spec.max_runtime_s})")
    if spec.image is None and today > IMAGE_PATCHED_UNTIL:
        raise InvalidConfig(
            "--image", None, f"an image of yours: ours is unpatched since {IMAGE_PATCHED_UNTIL}"
        )
    stopping = {"max_runtime_in_seconds": spec.max_runtime_s}
    if spec.spot:
        stopping["max_wait_time_in_seconds"] = spec.max_wait_s
    stem = Path(spec.recipe).stem
    home = f"s3://{spec.bucket}/training/{stem}"
    return {
        "region": spec.region,
        "bucket": spec.bucket,
        "code_prefix": f"training/{stem}/code",
        "training_image": spec.image or IMAGE.format(region=spec.region),
        "role": spec.role_arn,
        "base_job_name": f"turnout-{stem.replace('_', '-')}",
        "hyperparameters": {"recipe": Path(spec.recipe).name, "until": "training"},
        "compute": {
            "instance_type": spec.instance_type,
            "instance_count": spec.instances,
            "enable_managed_spot_training": spec.spot,
        },
        "stopping_condition": stopping,
        "checkpoint_config": {"s3_uri": f"{home}/checkpoints", "local_path": "/opt/ml/checkpoints"},
        "output_data_config": {"s3_output_path": f"{home}/output"},
        "metrics": METRICS,
        "channels": {"training": spec.data} if spec.data else {},
    }


def stage_code(recipe: str, folder: Path) -> None:
    """Copies what the container runs, and what it needs installed, into `folder`; a recipe's own file too."""
    if recipe.endswith(".py"):
        shutil.copyfile(recipe, folder / Path(recipe).name)
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / name)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    lines = [f"{name}=={pins[name]}" for name in REQUIREMENTS]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")


def launch(job: Mapping[str, Any], code: Path, python: Path, environment: Mapping[str, str]) -> Trained:
    """Starts the job, follows its logs (on stderr) to the end.

    `python`: an interpreter that has the SageMaker SDK; `environment`: its variables, credentials among them.
    Raises BuildError when the job fails or leaves nothing.
    """
    answer = code.parent / "answer.json"
    done = subprocess.run(  # noqa: S603  # our own module
        [str(python), "-m", launch_worker.__name__, str(code), str(answer)],
        input=json.dumps(job), text=True, stdout=sys.stderr, check=False,
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "AWS_DEFAULT_REGION": job["region"],
            # The SDK simulates a list of actions of its own on the role and refuses one that is narrower; the
            # stage's role is narrow on purpose, and whether it suffices SageMaker itself says.
            "SAGEMAKER_VALIDATE_ROLE": "false",
        },
    )  # fmt: skip
    if not answer.is_file():
        raise BuildError(f"the SageMaker SDK stopped with exit code {done.returncode}; its words are above")
    told = json.loads(answer.read_text())
    if "failed" in told:
        raise BuildError(f"the training job failed: {told['failed']}")
    if not isinstance(told["uri"], str):
        raise BuildError(f"the job {told['job']} left no model artifacts")
    return Trained(told["job"], told["uri"], told["metrics"])


def take_in(archive: bytes, root: Path) -> int:
    """Unpacks the finished steps of a job's model.tar.gz into the cache; returns how many there were.

    Raises BuildError when it is not such an archive. No member can land outside `root`.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            wanted = [member for member in tar if member.name.removeprefix("./").startswith("cache/")]
            for member in wanted:
                member.name = member.name.removeprefix("./").removeprefix("cache/")
            tar.extractall(root, members=wanted, filter="data")
    except tarfile.TarError as error:
        raise BuildError(f"the job's model.tar.gz cannot be unpacked: {error}") from error
    steps = [member for member in wanted if member.name.endswith("/result.json")]
    if not steps:
        raise BuildError("the job's model.tar.gz holds no finished steps")
    return len(steps)


def check_taken(planned: tuple[pipeline.Planned, ...], needed: tuple[str, ...]) -> None:
    """Raises BuildError when the job trained from other inputs than this machine's."""
    missing = [item.step.name for item in planned if item.step.name in needed and not item.cached]
    if missing:
        raise BuildError(
            f"the job's {', '.join(missing)} came from another recipe, data or library version than here; "
            "install the pinned versions (constraints.txt) or build with the code that was sent"
        )
