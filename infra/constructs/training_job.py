"""The SageMaker job that trains a model, as its state machine asks for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.config import Training

VOLUME_GB = 50


@dataclass(frozen=True, slots=True)
class TrainingNames:
    """What the machine calls on; ARNs and URIs may be tokens. `alias` is the function's `name:live`."""

    stage: str
    model: str
    recipe: str
    image: str
    role_arn: str
    bucket: str
    builder: str
    alias: str
    packages: str
    topic_arn: str
    kms_key_arn: str | None = None

    @property
    def job_uri(self) -> str:
        """Where one execution's files are, as the format string of `States.Format`."""
        return f"s3://{self.bucket}/training/{self.model}/{{}}"

    @property
    def data_uri(self) -> str:
        """What the training channel holds: the recipe's data, kept from one execution to the next."""
        return f"s3://{self.bucket}/data/{self.model}/"


def training_job(
    names: TrainingNames, settings: Training, instance_type: str, attempt: int
) -> dict[str, Any]:
    """The parameters of CreateTrainingJob on one instance type; `attempt` makes the job's name unique."""
    stopping = {"MaxRuntimeInSeconds": 60 * settings.max_runtime_minutes}
    resources: dict[str, Any] = {
        "InstanceType": instance_type,
        "InstanceCount": 1,
        "VolumeSizeInGB": VOLUME_GB,
    }
    output: dict[str, Any] = {"S3OutputPath.$": in_execution(f"{names.job_uri}/output")}
    if settings.spot:
        stopping["MaxWaitTimeInSeconds"] = 60 * settings.max_wait_minutes
    if settings.warm_pool_minutes:
        resources["KeepAlivePeriodInSeconds"] = 60 * settings.warm_pool_minutes
    if names.kms_key_arn:
        resources["VolumeKmsKeyId"] = output["KmsKeyId"] = names.kms_key_arn
    return {
        "TrainingJobName.$": f"States.Format('{{}}-{attempt}', $$.Execution.Name)",
        "RoleArn": names.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": names.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", "-m", "model_build.remote"],
        },
        "HyperParameters": {"recipe": names.recipe},
        "InputDataConfig": [
            {
                "ChannelName": "training",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": names.data_uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": output,
        "ResourceConfig": resources,
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": settings.spot,
        "CheckpointConfig": {
            "S3Uri.$": in_execution(f"{names.job_uri}/checkpoints"),
            "LocalPath": "/opt/ml/checkpoints",
        },
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "Tags": [
            {"Key": "turnout:stage", "Value": names.stage},
            {"Key": "turnout:model", "Value": names.model},
        ],
    }


def in_execution(template: str) -> str:
    """A string of the state machine with the execution's name for `{}`."""
    return f"States.Format('{template}', $$.Execution.Name)"
