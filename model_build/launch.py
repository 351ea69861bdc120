"""A training job on SageMaker, from a laptop: what is asked (pure), the launch, and what comes back.

The job trains; this machine then takes the finished steps into its cache and goes on to the release. The
`sagemaker` SDK (1 GB, an extra of its own) is imported only in `launch`.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from handlers.errors import BuildError, InvalidConfig
from model_build import pipeline
from model_build.sources import ROOT

IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch:2.13-cu133-amzn2023-sagemaker"
IMAGE_PATCHED_UNTIL = date(2027, 7, 20)
METRICS = {
    f"{step}:score": rf"turnout step={step} done=\S+ epoch \S+\s+\S+ ([0-9.]+)"
    for step in ("teacher", "student", "reference", "distil", "prune")
}
CODE = ("handlers", "model_build", "pyproject.toml", "constraints.txt")
REQUIREMENTS = ("torch-pruning", "scikit-learn", "onnx", "onnxruntime", "onnxscript", "pydantic")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job. `data`: a folder or s3:// URI for the training channel, None if the recipe brings its own."""

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
    home = f"s3://{spec.bucket}/training/{spec.recipe}"
    return {
        "training_image": spec.image or IMAGE.format(region=spec.region),
        "role": spec.role_arn,
        "base_job_name": f"turnout-{spec.recipe}",
        "hyperparameters": {"recipe": spec.recipe, "until": "training"},
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


def stage_code(folder: Path) -> None:
    """Copies what the container runs, and what it needs installed, into `folder`."""
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


def launch(job: Mapping[str, Any], code: Path) -> str:
    """Starts the job, follows its logs to the end, returns the S3 URI of its model.tar.gz.

    Raises BuildError when the SDK is not installed or the job leaves nothing.
    """
    try:
        from sagemaker.train import ModelTrainer, configs
    except ImportError as error:
        raise BuildError("training on SageMaker needs its SDK: pip install -e '.[sagemaker]'") from error
    trainer = ModelTrainer(
        training_image=job["training_image"],
        role=job["role"],
        base_job_name=job["base_job_name"],
        hyperparameters=dict(job["hyperparameters"]),
        source_code=configs.SourceCode(
            source_dir=str(code), requirements="requirements.txt", command="python -m model_build.remote"
        ),
        compute=configs.Compute(**job["compute"]),
        stopping_condition=configs.StoppingCondition(**job["stopping_condition"]),
        checkpoint_config=configs.CheckpointConfig(**job["checkpoint_config"]),
        output_data_config=configs.OutputDataConfig(**job["output_data_config"]),
    ).with_metric_definitions(
        [configs.MetricDefinition(name=name, regex=regex) for name, regex in job["metrics"].items()]
    )
    inputs = [configs.InputData(channel_name=name, data_source=uri) for name, uri in job["channels"].items()]
    trainer.train(input_data_config=inputs, wait=True, logs=True)
    training_job = trainer._latest_training_job
    training_job.refresh()
    artifacts = getattr(training_job, "model_artifacts", None)
    uri = getattr(artifacts, "s3_model_artifacts", None)
    if not isinstance(uri, str):
        raise BuildError(f"the job {training_job.training_job_name} left no model artifacts")
    return uri


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
