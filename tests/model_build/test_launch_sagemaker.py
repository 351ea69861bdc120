"""The real SageMaker SDK against moto, whose jobs are run here by the very entry point of the container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.sagemaker.models import sagemaker_backends
from moto.server import ThreadedMotoServer

from handlers.errors import BuildError
from model_build import launch
from model_build.tool_environment import HOME
from tests.model_build.test_remote import RECIPE

SDK = HOME / "sagemaker" / "bin" / "python"
REGION, BUCKET = "us-east-1", "jobs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SDK.exists(), reason="the SageMaker SDK (0.6 GB) is not in .turnout/sagemaker: make sagemaker"
    ),
]


class Hands:
    """What moto's SageMaker lacks: runs each job's code as its container would, and writes its log."""

    def __init__(self, url: str, folder: Path) -> None:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.session = boto3.Session(region_name=REGION, **keys)  # type: ignore[arg-type]
        self.s3 = self.session.client("s3", endpoint_url=url)
        self.logs = self.session.client("logs", endpoint_url=url)
        self.folder = folder
        self.jobs: dict[str, Any] = sagemaker_backends[DEFAULT_ACCOUNT_ID][REGION].training_jobs
        self.output = ""
        self.breaks = False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        while not self.ended.is_set():
            for name, job in list(self.jobs.items()):
                if job.secondary_status == "Completed" and not hasattr(job, "taken"):
                    job.taken = True
                    job.training_job_status = job.secondary_status = "InProgress"
                    code = 1 if self.breaks else self.run(name, job)
                    job.failure_reason = None if code == 0 else "the container ended with 1"
                    job.training_job_status = job.secondary_status = "Completed" if code == 0 else "Failed"
            time.sleep(0.02)

    def run(self, name: str, job: Any) -> int:
        """Lay out /opt/ml from the job's description, run its command, upload what it leaves."""
        root, code = self.folder / name / "ml", self.folder / name / "code"
        for channel in job.input_data_config:
            source = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
            target = (
                code if channel["ChannelName"] == "code" else root / "input/data" / channel["ChannelName"]
            )
            for entry in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=source).get("Contents", []):
                file = target / entry["Key"].removeprefix(source).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                self.s3.download_file(BUCKET, entry["Key"], str(file))
        config = root / "input" / "config"
        config.mkdir(parents=True)
        (config / "hyperparameters.json").write_text(json.dumps(job.hyper_parameters))
        done = subprocess.run(
            [sys.executable, "-m", "model_build.remote"], cwd=code, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"TURNOUT_ML_ROOT": str(root), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(code)},
        )  # fmt: skip
        self.output = done.stdout
        group = {"logGroupName": "/aws/sagemaker/TrainingJobs"}
        self.logs.create_log_group(**group)
        self.logs.create_log_stream(**group, logStreamName=f"{name}/algo-1-1")
        lines = [{"timestamp": int(time.time() * 1000), "message": line} for line in done.stdout.splitlines()]
        self.logs.put_log_events(**group, logStreamName=f"{name}/algo-1-1", logEvents=lines)
        archive = self.folder / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(root / "model", ".") if (root / "model").is_dir() else None
        uri = job.model_artifacts["S3ModelArtifacts"].removeprefix(f"s3://{BUCKET}/")
        self.s3.upload_file(str(archive), BUCKET, uri)
        return done.returncode


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[tuple[Hands, dict[str, str]]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
    given = Hands(url, tmp_path / "sagemaker")
    given.s3.create_bucket(Bucket=BUCKET)
    policy = '{"Version": "2012-10-17", "Statement": []}'
    role = given.session.client("iam", endpoint_url=url).create_role(
        RoleName="trainer", AssumeRolePolicyDocument=policy
    )["Role"]["Arn"]
    environment = os.environ | {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION, "ROLE": role, "OMP_NUM_THREADS": "1",
        "TURNOUT_CACHE_DIR": str(tmp_path / "cache"), "TURNOUT_RELEASES_DIR": str(tmp_path / "releases"),
    }  # fmt: skip
    given.thread.start()
    try:
        yield given, environment
    finally:
        given.ended.set()
        given.thread.join()
        server.stop()


def test_GivenTheSdk_WhenAModelIsTrained_ThenItsLogIsFollowedAndItsReleaseIsHere(
    hands: tuple[Hands, dict[str, str]], tmp_path: Path
) -> None:
    sagemaker, environment = hands
    recipe = tmp_path / "tiny.py"
    recipe.write_text(RECIPE.replace("EPOCHS", "2"))
    command = [
        sys.executable, "-m", "scripts.cli", "train", str(recipe), "--on", "sagemaker", "--spot",
        "--role", environment["ROLE"], "--bucket", BUCKET,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr + sagemaker.output
    told = json.loads(done.stdout)
    (name,) = sagemaker.jobs
    job = sagemaker.jobs[name]
    assert told["job"] == name
    assert job.enable_managed_spot_training
    assert job.checkpoint_config["LocalPath"] == "/opt/ml/checkpoints"
    assert "turnout step=teacher done=1.0000 epoch 2/2" in done.stderr
    assert (tmp_path / "releases" / "tiny" / told["release"] / "manifest.json").is_file()


def test_GivenAJobThatFails_WhenItEnds_ThenItsReasonIsTheError(
    hands: tuple[Hands, dict[str, str]], tmp_path: Path
) -> None:
    sagemaker, environment = hands
    sagemaker.breaks = True
    spec = launch.JobSpec("digits", environment["ROLE"], BUCKET, REGION)
    code = tmp_path / "code"
    code.mkdir()
    launch.stage_code("digits", code)
    job = launch.request(spec, date(2026, 11, 24))
    with pytest.raises(BuildError, match=r"the training job failed: .*the container ended with 1"):
        launch.launch(job, code, SDK, environment)
