"""Where moto's answers differ from AWS's in a way that turnout's main job runs into, put right.

Each correction says what moto does and what AWS does. They are applied once, before the server starts.
"""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session
from moto.awslambda.models import LambdaFunction, LambdaVersion, Permission, lambda_backends
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudwatch.models import Statistics
from moto.s3.models import s3_backends
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, Model, SageMakerModelBackend
from moto.ssm.models import Parameter

from scripts.local.moto_stack_corrections import correct_stacks, replace

PRESIGNED = "AWSAccessKeyId=local&Signature=local&Expires=9999999999"
"""AWS's link is presigned too; moto refuses anonymous readers but checks no signature."""


def correct_all(endpoint_url: str) -> None:
    """Applies every correction; `endpoint_url` is where this moto serves S3."""
    keep_stated_sagemaker_names()
    accept_every_instance_type()
    allow_variants_without_model()
    answer_attributes_of_a_version()
    permit_by_alias()
    keep_all_function_properties()
    serve_function_code(endpoint_url)
    take_parameter_tags_as_map()
    answer_percentiles()
    correct_stacks()


def keep_stated_sagemaker_names() -> None:
    """moto makes up the names of SageMaker models, configurations and endpoints; AWS uses the stated ones."""
    for model, prop in (
        (Model, "ModelName"),
        (FakeEndpointConfig, "EndpointConfigName"),
        (FakeEndpoint, "EndpointName"),
    ):
        replace(model, "cloudformation_name_type", staticmethod(lambda prop=prop: prop))


def accept_every_instance_type() -> None:
    """moto knows the instance types of 2021; AWS those in the service's own API model, which botocore has."""
    service = botocore.session.get_session().get_service_model("sagemaker")
    known = frozenset(service.shape_for("ProductionVariantInstanceType").metadata["enum"])

    def validate_instance_type(_self: FakeEndpointConfig, instance_type: str) -> None:
        if instance_type not in known:
            raise ValidationError(
                message=f"Value '{instance_type}' at 'instanceType' failed to satisfy constraint"
            )

    replace(FakeEndpointConfig, "validate_instance_type", validate_instance_type)


def allow_variants_without_model() -> None:
    """moto demands ModelName; AWS takes a variant without one where inference components bring the models."""
    original = SageMakerModelBackend.validate_production_variants

    def validate(self: SageMakerModelBackend, production_variants: list[dict[str, Any]]) -> None:
        original(self, [variant for variant in production_variants if "ModelName" in variant])

    replace(SageMakerModelBackend, "validate_production_variants", validate)


def answer_attributes_of_a_version() -> None:
    """moto's AWS::Lambda::Version answers neither Ref nor GetAtt; an alias and a permission need both."""
    original = LambdaVersion.create_from_cloudformation_json

    def create(_cls: type, name: str, template: dict[str, Any], *where: Any, **kwargs: Any) -> LambdaVersion:
        made: LambdaVersion = original(name, template, *where, **kwargs)
        account_id, region = where or (kwargs["account_id"], kwargs["region_name"])
        function = lambda_backends[account_id][region].get_function(template["Properties"]["FunctionName"])
        arn = f"{function.function_arn.removesuffix(':$LATEST')}:{made.version}"
        vars(made)["function_arn"] = arn
        return made

    def attribute(self: Any, name: str) -> str:
        if name == "Version":
            return str(self.version)
        if name == "FunctionArn":
            return str(self.function_arn)
        raise UnformattedGetAttTemplateException

    replace(LambdaVersion, "create_from_cloudformation_json", classmethod(create))
    replace(LambdaVersion, "get_cfn_attribute", attribute)
    replace(LambdaVersion, "has_cfn_attr", classmethod(lambda _cls, name: name in ("Version", "FunctionArn")))
    replace(LambdaVersion, "physical_resource_id", property(lambda self: self.function_arn))


def permit_by_alias() -> None:
    """moto looks a permission's function up by name only; AWS takes name:alias and ARNs of aliases too."""

    def create(cls: type, _name: str, template: dict[str, Any], *where: Any, **kwargs: Any) -> Any:
        account_id, region = where or (kwargs["account_id"], kwargs["region_name"])
        properties = template["Properties"]
        function, _, qualifier = properties["FunctionName"].rpartition(":function:")[2].partition(":")
        found = lambda_backends[account_id][region].get_function(function, qualifier or None)
        found.policy.add_statement(raw=json.dumps(properties))
        return cls(region=region)

    replace(Permission, "create_from_cloudformation_json", classmethod(create))
    replace(Permission, "physical_resource_id", property(lambda _self: "permission"))


def keep_all_function_properties() -> None:
    """moto's AWS::Lambda::Function drops the architectures and the size of /tmp that a template states."""
    original = LambdaFunction.create_from_cloudformation_json

    def create(_cls: type, name: str, template: dict[str, Any], *where: Any, **kwargs: Any) -> LambdaFunction:
        made: LambdaFunction = original(name, template, *where, **kwargs)
        properties = template["Properties"]
        made.architectures = properties.get("Architectures", ["x86_64"])
        made.ephemeral_storage = int(properties.get("EphemeralStorage", {}).get("Size", 512))
        return made

    replace(LambdaFunction, "create_from_cloudformation_json", classmethod(create))


def serve_function_code(endpoint_url: str) -> None:
    """moto's GetFunction points at AWS's own host; here its Location is a link that moto itself serves."""
    original = LambdaFunction.get_code

    def get_code(self: LambdaFunction) -> dict[str, Any]:
        answer = original(self)
        if "S3Key" in self.code:
            bucket = f"awslambda-{self.region}-tasks"
            store = s3_backends[self.account_id][self.partition]
            if bucket not in store.buckets:
                store.create_bucket(bucket, self.region)
            key = f"{self.code_sha_256.replace('/', '_')}.zip"
            if store.head_object(bucket, key) is None:
                store.put_object(bucket, key, self.code_bytes)
            answer["Code"]["Location"] = f"{endpoint_url}/{bucket}/{key}?{PRESIGNED}"
        return answer

    replace(LambdaFunction, "get_code", get_code)


def take_parameter_tags_as_map() -> None:
    """moto expects an SSM parameter's tags as a list; in AWS's templates they are an object."""
    original = Parameter.create_from_cloudformation_json

    def create(_cls: type, name: str, template: dict[str, Any], *where: Any, **kwargs: Any) -> Parameter:
        properties = dict(template["Properties"])
        if isinstance(properties.get("Tags"), dict):
            properties["Tags"] = [{"Key": key, "Value": value} for key, value in properties["Tags"].items()]
        made: Parameter = original(name, {**template, "Properties": properties}, *where, **kwargs)
        return made

    replace(Parameter, "create_from_cloudformation_json", classmethod(create))


def answer_percentiles() -> None:
    """moto's metrics know Sum, Average, Minimum, Maximum and SampleCount; AWS's percentiles (p99) too."""
    original = Statistics.get_statistics_for_type

    def statistic(self: Statistics, stat: str) -> Any:
        if not re.fullmatch(r"p\d{1,2}(\.\d+)?", stat):
            return original(self, stat)
        ordered = sorted(self.metric_single_values_list)
        return ordered[min(int(float(stat[1:]) / 100.0 * len(ordered)), len(ordered) - 1)]

    replace(Statistics, "get_statistics_for_type", statistic)
