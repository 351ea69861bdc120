"""Given an endpoint, when its size is read or set, both kinds of capacity say and take what they should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from handlers.adapters.gpu_fleet import FleetSize, GpuFleet


@pytest.fixture
def sagemaker() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client(
            "sagemaker", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        client.create_model(ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/r")
        client.create_endpoint_config(
            EndpointConfigName="c",
            ProductionVariants=[
                {
                    "VariantName": "main",
                    "ModelName": "m",
                    "InstanceType": "ml.g4dn.xlarge",
                    "InitialInstanceCount": 1,
                }
            ],
        )
        client.create_endpoint(EndpointName="e", EndpointConfigName="c")
        yield client


def test_a_classic_variant_is_sized_by_its_instances(sagemaker: Any) -> None:
    fleet = GpuFleet(sagemaker, "e", "", "main")
    assert fleet.size() == FleetSize(1, 0, True)
    fleet.resize(3)
    size = fleet.size()
    assert size is not None
    assert size.ready + size.starting == 3


def test_an_endpoint_that_is_not_deployed_has_no_size(sagemaker: Any) -> None:
    assert GpuFleet(sagemaker, "nothing", "", "main").size() is None


class Components:
    """SageMaker's two calls for inference components; moto has neither."""

    def __init__(self, current: int, desired: int, status: str = "InService") -> None:
        self.counts = {"CurrentCopyCount": current, "DesiredCopyCount": desired}
        self.status = status

    def describe_inference_component(self, InferenceComponentName: str) -> dict[str, Any]:  # noqa: N803
        if InferenceComponentName == "forbidden":
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Describe")
        return {"RuntimeConfig": self.counts, "InferenceComponentStatus": self.status}

    def update_inference_component_runtime_config(
        self,
        InferenceComponentName: str,  # noqa: N803
        DesiredRuntimeConfig: dict[str, int],  # noqa: N803
    ) -> None:
        assert InferenceComponentName == "component"
        self.counts["DesiredCopyCount"] = DesiredRuntimeConfig["CopyCount"]


@pytest.mark.parametrize(
    ("current", "desired", "status", "size"),
    [
        (0, 0, "InService", FleetSize(0, 0, True)),
        (1, 3, "Updating", FleetSize(1, 2, False)),
        (3, 1, "Updating", FleetSize(1, 0, False)),
    ],
)
def test_a_component_is_sized_by_its_copies(current: int, desired: int, status: str, size: FleetSize) -> None:
    assert GpuFleet(Components(current, desired, status), "e", "component", "main").size() == size


def test_a_component_wakes_from_zero() -> None:
    fleet = GpuFleet(Components(0, 0), "e", "component", "main")
    fleet.resize(1)
    assert fleet.size() == FleetSize(0, 1, True)


def test_a_refusal_is_not_taken_for_an_absence() -> None:
    with pytest.raises(ClientError):
        GpuFleet(Components(0, 0), "e", "forbidden", "main").size()
