"""Where moto's CloudFormation differs from AWS's in a way that an update of a stack runs into, put right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

from moto.applicationautoscaling import models as scaling
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import CloudFormationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult, EmptyResult

COPIES = ("sagemaker", "sagemaker:inference-component:DesiredCopyCount")


def correct_stacks() -> None:
    """Applies every correction of this module."""
    scale_inference_components()
    update_what_a_parameter_in_ssm_changed()
    show_outputs_after_a_change_set()
    miss_a_change_set_as_aws_does()
    delete_dependents_first()
    delete_what_a_condition_no_longer_wants()


def replace(owner: object, name: str, value: object) -> None:
    """Puts `value` in the place of a method of a class, or a function of a module, of moto's."""
    setattr(owner, name, value)


def scale_inference_components() -> None:
    """moto's Application Auto Scaling does not know inference components; AWS's does since 2023."""
    original = scaling._target_params_are_valid

    def valid(namespace: str, resource_id: str, dimension: str) -> bool:
        if (namespace, dimension) == COPIES and resource_id.startswith("inference-component/"):
            return True
        return bool(original(namespace, resource_id, dimension))

    replace(scaling, "_target_params_are_valid", valid)


def update_what_a_parameter_in_ssm_changed() -> None:
    """moto compares an SSM parameter's name; AWS reads its value again at every update of the stack."""
    same, diff = CloudFormationResponse._validate_different_update, ResourceMap.build_resource_diff
    has_parameters, update = Stack.has_parameters, ResourceMap.update

    def validate(self: CloudFormationResponse, incoming: Any, body: str, stack: Stack) -> None:
        if not moved(stack.resource_map):
            same(self, incoming, body, stack)

    def has(self: Stack, parameters: Any) -> bool:
        return not moved(self.resource_map) and bool(has_parameters(self, parameters))

    def build(self: ResourceMap, template: dict[str, Any], parameters: Any = None) -> dict[str, Any]:
        actions: dict[str, list[str]] = diff(self, template, parameters)
        for name in affected(template, moved(self)):
            made = self._parsed_resources.get(name)
            if made is None:
                self._parsed_resources.pop(name, None)  # moto would find there what it deleted
            if not any(name in names for names in actions.values()):
                actions["Add" if made is None else "Modify"].append(name)
        return actions

    def updated(self: ResourceMap, template: dict[str, Any], parameters: Any = None) -> None:
        """For `UsePreviousValue` moto puts the value where the parameter's name belongs."""
        given = dict(parameters or {})
        for name in set(given) & set(ssm_parameters(template)):
            if given[name] == self.resolved_parameters.get(name):
                given[name] = self.input_parameters.get(name, template["Parameters"][name].get("Default"))
        update(self, template, given)

    resolve = CloudFormationBackend._resolve_update_parameters

    def resolved(self: CloudFormationBackend, instance: Stack, incoming_params: Any) -> Any:
        """The previous value of a parameter that was never given is its default."""
        given = [entry for entry in incoming_params if "ParameterValue" in entry]
        kept = [entry for entry in incoming_params if entry["ParameterKey"] in instance.parameters]
        return resolve(self, instance, [*given, *(entry for entry in kept if entry not in given)])

    replace(CloudFormationBackend, "_resolve_update_parameters", resolved)
    replace(ResourceMap, "update", updated)
    replace(CloudFormationResponse, "_validate_different_update", validate)
    replace(Stack, "has_parameters", has)
    replace(ResourceMap, "build_resource_diff", build)


def moved(resources: ResourceMap) -> set[str]:
    """The stack's parameters of an SSM type whose value in SSM is no longer what the stack was made with."""
    found = set()
    for name in ssm_parameters(resources._template):
        slot = resources._template["Parameters"][name]
        path = resources.input_parameters.get(name, slot.get("Default"))
        if resources.parse_ssm_parameter(path, slot["Type"]) != resources.resolved_parameters.get(name):
            found.add(name)
    return found


def ssm_parameters(template: Mapping[str, Any]) -> list[str]:
    """The names of a template's parameters whose value is that of an SSM parameter."""
    slots = template.get("Parameters", {}).items()
    return [name for name, slot in slots if slot["Type"].startswith("AWS::SSM::Parameter::Value")]


def affected(template: Mapping[str, Any], parameters: set[str]) -> list[str]:
    """The resources that depend on `parameters`, through conditions and other resources too."""
    conditions = {
        name for name, body in template.get("Conditions", {}).items() if parameters & set(references(body))
    }
    changed: set[str] = set(parameters)
    resources: Mapping[str, Any] = template["Resources"]
    while True:
        more = {
            name
            for name, body in resources.items()
            if body.get("Condition") in conditions or changed & set(references(body))
        } - changed
        if not more:
            return [name for name in resources if name in changed]
        changed |= more


def references(body: object) -> Iterator[str]:
    """Every name that `body` refers to, by Ref or Fn::GetAtt."""
    if isinstance(body, dict):
        for key, value in body.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else value.split(".")[0]
            else:
                yield from references(value)
    elif isinstance(body, list):
        for item in body:
            yield from references(item)


def delete_dependents_first() -> None:
    """moto deletes a stack's resources in any order, a function before its alias; AWS dependents first."""

    def delete(self: ResourceMap) -> None:
        left = {
            name: body
            for name, body in self._resource_json_map.items()
            if body.get("DeletionPolicy") != "Retain" and self._parsed_resources.get(name) is not None
        }
        for name in reversed(dependencies_first(left)):
            self._delete_resource(self._parsed_resources.pop(name), left[name])

    replace(ResourceMap, "delete", delete)


def delete_what_a_condition_no_longer_wants() -> None:
    """moto updates a resource whose condition has become false as if it were true; AWS deletes it."""
    original = parsing.parse_and_update_resource

    def update(name: str, body: dict[str, Any], resources: ResourceMap, *where: Any, **kwargs: Any) -> Any:
        if "Condition" not in body or resources.lazy_condition_map[body["Condition"]]:
            return original(name, body, resources, *where, **kwargs)
        if resources._parsed_resources.get(name) is not None:
            resources._delete_resource(resources._parsed_resources[name], body)
        return None

    replace(parsing, "parse_and_update_resource", update)


def dependencies_first(resources: Mapping[str, Any]) -> list[str]:
    """The names in an order in which each comes after what it refers to or depends on."""
    needs: dict[str, set[str]] = {}
    for name, body in resources.items():
        stated = body.get("DependsOn", [])
        named = {*references(body), *([stated] if isinstance(stated, str) else stated)}
        needs[name] = named & set(resources)
    return list(TopologicalSorter(needs).static_order())


def show_outputs_after_a_change_set() -> None:
    """moto forgets a template's outputs and exports when it executes a change set; AWS shows them."""
    execute = CloudFormationBackend.execute_change_set

    def executed(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = change_set_of(self, change_set_name, stack_name)
        execute(self, change_set.change_set_id, stack_name)
        stack = self.stacks[change_set.stack_id]
        stack._parse_template()
        stack.output_map = stack._create_output_map()
        for export in stack.exports:
            self.exports[export.name] = export

    replace(CloudFormationBackend, "execute_change_set", executed)


class ChangeSetNotFound(CloudFormationError):
    """What AWS answers, and the CDK CLI waits for, when a change set is gone."""

    code = "ChangeSetNotFound"


def change_set_of(backend: CloudFormationBackend, name: str, stack: str | None) -> ChangeSet:
    """The change set with this ARN, or of this name among those of the stack (by name or ARN)."""
    for arn, change_set in backend.change_sets.items():
        known = (None, change_set.stack_name, change_set.stack_id)
        if arn == name or (change_set.change_set_name == name and stack in known):
            return change_set
    raise ChangeSetNotFound(f"ChangeSet [{name}] does not exist")


def miss_a_change_set_as_aws_does() -> None:
    """moto looks a change set's name up in all stacks, and breaks when an absent one is deleted.

    The CDK CLI deletes a stack's last change set and waits until it is gone, whatever other stacks have.
    """

    def deleted(self: CloudFormationResponse) -> ActionResult:
        backend = self.cloudformation_backend
        try:
            found = change_set_of(backend, self._get_param("ChangeSetName"), self._get_param("StackName"))
        except ChangeSetNotFound:
            return EmptyResult()
        del backend.change_sets[found.change_set_id]
        return EmptyResult()

    def described(self: CloudFormationResponse) -> ActionResult:
        name, stack = self._get_param("ChangeSetName"), self._get_param("StackName")
        return ActionResult(change_set_of(self.cloudformation_backend, name, stack))

    replace(CloudFormationResponse, "delete_change_set", deleted)
    replace(CloudFormationResponse, "describe_change_set", described)
