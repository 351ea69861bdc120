"""The GPU endpoint's capacity, for the control loop: what is there, and how much there should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError


@dataclass(frozen=True, slots=True)
class FleetSize:
    """Instances (or copies) that answer, those on their way, and whether the size may be changed now."""

    ready: int
    starting: int
    steady: bool


class GpuFleet:
    """One endpoint, sized by its inference component's copies, or by its variant's instances without one.

    `client` is a boto3 SageMaker client.
    """

    def __init__(self, client: Any, endpoint: str, inference_component: str, variant: str) -> None:
        self._client = client
        self._endpoint, self._component, self._variant = endpoint, inference_component, variant

    def size(self) -> FleetSize | None:
        """Return what the service says of it; None where it is not deployed."""
        try:
            return self._described()
        except ClientError as error:
            if "Could not find" in str(error):
                return None
            raise

    def _described(self) -> FleetSize:
        if self._component:
            found = self._client.describe_inference_component(InferenceComponentName=self._component)
            counts, status = found["RuntimeConfig"], found["InferenceComponentStatus"]
            desired, current = counts["DesiredCopyCount"], counts["CurrentCopyCount"]
        else:
            found = self._client.describe_endpoint(EndpointName=self._endpoint)
            status = found["EndpointStatus"]
            variant = next(v for v in found["ProductionVariants"] if v["VariantName"] == self._variant)
            current = variant.get("CurrentInstanceCount", 0)
            desired = variant.get("DesiredInstanceCount", current)
        return FleetSize(min(current, desired), max(desired - current, 0), status == "InService")

    def resize(self, target: int) -> None:
        """Ask for `target` instances; returns before they are there."""
        if self._component:
            self._client.update_inference_component_runtime_config(
                InferenceComponentName=self._component, DesiredRuntimeConfig={"CopyCount": target}
            )
            return
        self._client.update_endpoint_weights_and_capacities(
            EndpointName=self._endpoint,
            DesiredWeightsAndCapacities=[
                {"VariantName": self._variant, "DesiredInstanceCount": target},
            ],
        )
