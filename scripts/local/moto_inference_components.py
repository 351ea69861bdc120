"""SageMaker inference components for moto, which has none: the type, the API calls, and what really runs.

An endpoint's capacity has two sides: what was asked for (Update… calls, CloudFormation) and what runs. moto
lets the second follow the first at once; here the endpoint host reports it (`report_capacity`), so that a
control loop sees an instance start as slowly as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse

from scripts.local.moto_resource import Made, Wanted, teach


@dataclass(frozen=True, slots=True)
class InferenceComponent:
    """One model on an endpoint: `desired` copies asked for, `current` copies answering."""

    name: str
    arn: str
    endpoint: str
    variant: str
    specification: Mapping[str, Any]
    desired: int
    current: int

    def description(self) -> dict[str, Any]:
        """The answer of DescribeInferenceComponent."""
        return {
            "InferenceComponentName": self.name,
            "InferenceComponentArn": self.arn,
            "EndpointName": self.endpoint,
            "VariantName": self.variant,
            "Specification": dict(self.specification),
            "RuntimeConfig": {"DesiredCopyCount": self.desired, "CurrentCopyCount": self.current},
            "InferenceComponentStatus": "InService" if self.desired == self.current else "Updating",
            "CreationTime": utcnow(),
            "LastModifiedTime": utcnow(),
        }


Shelf = dict[str, InferenceComponent]
_shelves: dict[tuple[str, str], Shelf] = {}


def shelf(account_id: str, region: str) -> Shelf:
    """The inference components of one account and region, by name."""
    return _shelves.setdefault((account_id, region), {})


def find(components: Shelf, name: str) -> InferenceComponent:
    """Raises SageMaker's own ValidationException for a name that does not exist."""
    if name not in components:
        raise ValidationError(message=f'Could not find inference component "{name}".')
    return components[name]


def copies(runtime: Mapping[str, Any]) -> int:
    """CloudFormation says CopyCount, the API's answer DesiredCopyCount."""
    return int(runtime.get("CopyCount", 0))


def make(wanted: Wanted) -> Made:
    p = wanted.properties
    name = p.get("InferenceComponentName", wanted.name)
    endpoint = p["EndpointName"].rpartition("/")[2]  # Ref of an endpoint is its ARN
    if endpoint not in sagemaker_backends[wanted.account_id][wanted.region].endpoints:
        raise ValidationError(message=f'Could not find endpoint "{endpoint}".')
    arn = f"arn:aws:sagemaker:{wanted.region}:{wanted.account_id}:inference-component/{name}"
    component = InferenceComponent(
        name,
        arn,
        endpoint,
        p.get("VariantName", ""),
        p["Specification"],
        copies(p.get("RuntimeConfig", {})),
        0,
    )
    shelf(wanted.account_id, wanted.region)[name] = component
    return Made(
        arn,
        {
            "InferenceComponentArn": arn,
            "InferenceComponentName": name,
            "InferenceComponentStatus": "InService",
        },
    )


def change(made: Made, wanted: Wanted) -> Made:
    components = shelf(wanted.account_id, wanted.region)
    name = made.attributes["InferenceComponentName"]
    p = wanted.properties
    components[name] = replace(
        components[name], specification=p["Specification"], desired=copies(p.get("RuntimeConfig", {}))
    )
    return made


def drop(made: Made, wanted: Wanted) -> None:
    shelf(wanted.account_id, wanted.region).pop(made.attributes["InferenceComponentName"], None)


class InferenceComponentActions:
    """The API calls, grafted onto moto's SageMakerResponse."""

    def describe_inference_component(self: SageMakerResponse) -> ActionResult:  # type: ignore[misc]  # grafted
        components = shelf(self.current_account, self.region)
        return ActionResult(find(components, self._get_param("InferenceComponentName")).description())

    def list_inference_components(self: SageMakerResponse) -> ActionResult:  # type: ignore[misc]  # grafted
        endpoint = self._get_param("EndpointNameEquals")
        found = [
            c for c in shelf(self.current_account, self.region).values() if endpoint in (None, c.endpoint)
        ]
        return ActionResult({"InferenceComponents": [c.description() for c in found]})

    def update_inference_component_runtime_config(  # type: ignore[misc]  # grafted
        self: SageMakerResponse,
    ) -> ActionResult:
        components = shelf(self.current_account, self.region)
        component = find(components, self._get_param("InferenceComponentName"))
        wanted = int(self._get_param("DesiredRuntimeConfig")["CopyCount"])
        components[component.name] = replace(component, desired=wanted)
        return ActionResult({"InferenceComponentArn": component.arn})

    def delete_inference_component(self: SageMakerResponse) -> ActionResult:  # type: ignore[misc]  # grafted
        components = shelf(self.current_account, self.region)
        del components[find(components, self._get_param("InferenceComponentName")).name]
        return ActionResult({})


def update_weights_and_capacities(
    self: SageMakerModelBackend, endpoint_name: str, desired_weights_and_capacities: list[dict[str, Any]]
) -> str:
    """UpdateEndpointWeightsAndCapacities that changes what is desired and leaves what runs to the host."""
    endpoint = self.endpoints.get(endpoint_name)
    if endpoint is None:
        raise ValidationError(message=f'Could not find endpoint "{endpoint_name}".')
    variants = {variant["VariantName"]: variant for variant in endpoint.production_variants}
    for asked in desired_weights_and_capacities:
        if asked["VariantName"] not in variants:
            raise ValidationError(
                message=f'The variant name(s) "{asked["VariantName"]}" is/are not present within endpoint '
                f'configuration "{endpoint.endpoint_config_name}".'
            )
    for asked in desired_weights_and_capacities:
        variant = variants[asked["VariantName"]]
        if "DesiredInstanceCount" in asked:
            variant["DesiredInstanceCount"] = int(asked["DesiredInstanceCount"])
        if "DesiredWeight" in asked:
            variant["DesiredWeight"] = variant["CurrentWeight"] = asked["DesiredWeight"]
    set_status(endpoint)
    return str(endpoint.arn)


def set_status(endpoint: FakeEndpoint) -> None:
    """InService once every variant runs what it was asked for, Updating before."""
    settled = all(
        variant.get("CurrentInstanceCount") == variant.get("DesiredInstanceCount")
        for variant in endpoint.production_variants
    )
    endpoint.endpoint_status = "InService" if settled else "Updating"


def report_capacity(account_id: str, region: str, report: Mapping[str, Any]) -> None:
    """Takes the host's word for what runs: {"endpoint", "variant"} or {"component"}, and "current"."""
    if "component" in report:
        components = shelf(account_id, region)
        component = find(components, report["component"])
        components[component.name] = replace(component, current=int(report["current"]))
        return
    endpoint = sagemaker_backends[account_id][region].endpoints[report["endpoint"]]
    for variant in endpoint.production_variants:
        if variant["VariantName"] == report["variant"]:
            variant["CurrentInstanceCount"] = int(report["current"])
    set_status(endpoint)


def teach_inference_components() -> None:
    """Registers the type and grafts the calls; run before the server starts."""
    teach(
        "AWS::SageMaker::InferenceComponent",
        name="InferenceComponentName",
        create=make,
        update=change,
        delete=drop,
    )
    for name, action in vars(InferenceComponentActions).items():
        if not name.startswith("_"):
            setattr(SageMakerResponse, name, action)
    weights = "update_endpoint_weights_and_capacities"
    setattr(SageMakerModelBackend, weights, update_weights_and_capacities)
