"""What has been deployed, read back from AWS's API: functions, aliases, APIs, endpoints, schedules.

Everything that the laptop cloud hosts, it hosts because it is found here. `read` is the one function that
asks; the hosts get frozen values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.local.payload import Api, Route

if TYPE_CHECKING:
    import boto3

LATEST = "$LATEST"
CONCURRENCY = 1000
"""Calls at once that an account may have in a region, unless a function reserves a number of its own."""


@dataclass(frozen=True, slots=True)
class Function:
    """One version of a function; `code_url` serves its zip, whose base64 sha256 is `code_sha256`."""

    name: str
    version: str
    arn: str
    handler: str
    runtime: str
    memory_mb: int
    timeout_s: float
    environment: Mapping[str, str]
    code_url: str
    code_sha256: str
    concurrency: int = CONCURRENCY

    @property
    def key(self) -> tuple[object, ...]:
        """Two versions with the same key may share sandboxes."""
        return (
            self.name,
            self.version,
            self.code_sha256,
            self.memory_mb,
            self.timeout_s,
            tuple(sorted(self.environment.items())),
        )


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version; `weights` sends shares of the calls to others (a canary)."""

    version: str
    weights: Mapping[str, float] = field(default_factory=dict)

    def pick(self, draw: float) -> str:
        """The version for one call; `draw` is uniform in [0, 1)."""
        for version, weight in self.weights.items():
            if draw < weight:
                return version
            draw -= weight
        return self.version


@dataclass(frozen=True, slots=True)
class Variant:
    """A scalable thing behind an endpoint: a production variant, or an inference component."""

    endpoint: str
    variant: str
    component: str
    desired: int
    model_data: str
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.component or f"{self.endpoint}/{self.variant}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule that calls a function every `every_s` seconds with `payload`."""

    name: str
    every_s: float
    function: str
    qualifier: str
    payload: str


@dataclass(frozen=True, slots=True)
class Deployed:
    """All of it at one moment."""

    functions: Mapping[tuple[str, str], Function]
    aliases: Mapping[tuple[str, str], Alias]
    apis: Sequence[Api]
    variants: Sequence[Variant]
    schedules: Sequence[Schedule]

    def resolve(self, name: str, qualifier: str, draw: float) -> Function | None:
        """The version that a call of name:qualifier reaches."""
        alias = self.aliases.get((name, qualifier))
        return self.functions.get((name, alias.pick(draw) if alias else qualifier))


def read(session: boto3.Session) -> Deployed:
    """Asks AWS for everything; a few dozen calls. Raises botocore's errors."""
    functions, aliases = read_functions(session.client("lambda"))
    return Deployed(
        functions,
        aliases,
        [*read_apis(session.client("apigatewayv2")), *read_rest_apis(session.client("apigateway"))],
        read_variants(session.client("sagemaker")),
        [*read_rules(session.client("events")), *read_schedules(session.client("scheduler"))],
    )


def read_functions(client: Any) -> tuple[dict[tuple[str, str], Function], dict[tuple[str, str], Alias]]:
    functions: dict[tuple[str, str], Function] = {}
    aliases: dict[tuple[str, str], Alias] = {}
    for page in client.get_paginator("list_functions").paginate():
        for listed in page["Functions"]:
            name = listed["FunctionName"]
            versions = {LATEST}
            for alias in client.list_aliases(FunctionName=name)["Aliases"]:
                weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})
                aliases[name, alias["Name"]] = Alias(alias["FunctionVersion"], weights)
                versions |= {alias["FunctionVersion"], *weights}
            for version in versions:
                functions[name, version] = read_function(client, name, version)
    return functions, aliases


def read_function(client: Any, name: str, version: str) -> Function:
    answer = client.get_function(FunctionName=name, Qualifier=version)
    about = answer["Configuration"]
    return Function(
        name,
        version,
        about["FunctionArn"],
        about["Handler"],
        about["Runtime"],
        about["MemorySize"],
        float(about["Timeout"]),
        about.get("Environment", {}).get("Variables", {}),
        answer["Code"]["Location"],
        about["CodeSha256"],
        answer.get("Concurrency", {}).get("ReservedConcurrentExecutions", CONCURRENCY),
    )


def read_apis(client: Any) -> list[Api]:
    apis: list[Api] = []
    for api in client.get_apis()["Items"]:
        uris = {
            integration["IntegrationId"]: integration.get("IntegrationUri", "")
            for integration in client.get_integrations(ApiId=api["ApiId"])["Items"]
        }
        routes = [
            Route(
                route["RouteKey"],
                uris.get(route.get("Target", "").rpartition("/")[2], ""),
                route.get("AuthorizationType") or "NONE",
            )
            for route in client.get_routes(ApiId=api["ApiId"])["Items"]
        ]
        apis += [
            Api(api["ApiId"], api["Name"], stage["StageName"], stage.get("StageVariables", {}), routes)
            for stage in client.get_stages(ApiId=api["ApiId"])["Items"]
        ]
    return apis


def read_rest_apis(client: Any) -> list[Api]:
    apis: list[Api] = []
    for api in client.get_rest_apis()["items"]:
        resources = client.get_resources(restApiId=api["id"], embed=["methods"], limit=500)["items"]
        routes = [
            Route(
                f"{verb} {resource['path']}",
                method["methodIntegration"]["uri"],
                method["authorizationType"],
            )
            for resource in resources
            for verb, method in resource.get("resourceMethods", {}).items()
        ]
        apis += [
            Api(api["id"], api["name"], stage["stageName"], stage.get("variables", {}), routes, "rest")
            for stage in client.get_stages(restApiId=api["id"])["item"]
        ]
    return apis


def read_variants(client: Any) -> list[Variant]:
    variants = []
    for listed in client.list_endpoints()["Endpoints"]:
        endpoint = client.describe_endpoint(EndpointName=listed["EndpointName"])
        config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
        models = {v["VariantName"]: v.get("ModelName") for v in config["ProductionVariants"]}
        for variant in endpoint["ProductionVariants"]:
            model = models.get(variant["VariantName"])
            if model:
                data, environment = read_model(client, model)
                desired = variant.get("DesiredInstanceCount", 0)
                variants.append(
                    Variant(listed["EndpointName"], variant["VariantName"], "", desired, data, environment)
                )
    for listed in client.list_inference_components()["InferenceComponents"]:
        component = client.describe_inference_component(
            InferenceComponentName=listed["InferenceComponentName"]
        )
        data, environment = read_specification(client, component["Specification"])
        variants.append(
            Variant(
                component["EndpointName"],
                component["VariantName"],
                component["InferenceComponentName"],
                component["RuntimeConfig"]["DesiredCopyCount"],
                data,
                environment,
            )
        )
    return variants


def read_specification(client: Any, specification: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    if "ModelName" in specification:
        return read_model(client, specification["ModelName"])
    container = specification.get("Container", {})
    return container.get("ArtifactUrl", ""), container.get("Environment", {})


def read_model(client: Any, name: str) -> tuple[str, Mapping[str, str]]:
    container = client.describe_model(ModelName=name)["PrimaryContainer"]
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return source.get("S3Uri") or container.get("ModelDataUrl", ""), container.get("Environment", {})


def read_rules(client: Any) -> list[Schedule]:
    found: list[Schedule] = []
    for rule in client.list_rules()["Rules"]:
        every = seconds_of(rule.get("ScheduleExpression", ""))
        if every and rule["State"] == "ENABLED":
            targets = client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            found += [schedule(rule["Name"], every, t["Arn"], t.get("Input", "{}")) for t in targets]
    return found


def read_schedules(client: Any) -> list[Schedule]:
    found = []
    for listed in client.list_schedules()["Schedules"]:
        rule = client.get_schedule(Name=listed["Name"], GroupName=listed.get("GroupName", "default"))
        every = seconds_of(rule["ScheduleExpression"])
        if every and rule["State"] == "ENABLED":
            target = rule["Target"]
            found.append(schedule(rule["Name"], every, target["Arn"], target.get("Input", "{}")))
    return found


def schedule(name: str, every_s: float, arn: str, payload: str) -> Schedule:
    function, _, qualifier = arn.rpartition(":function:")[2].partition(":")
    return Schedule(name, every_s, function, qualifier or LATEST, payload)


def seconds_of(expression: str) -> float:
    """`rate(1 minute)` in seconds; 0 for a cron expression, which the laptop does not keep."""
    if not expression.startswith("rate("):
        return 0.0
    count, unit = expression[5:-1].split()
    return float(count) * {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}[unit.rstrip("s")]
