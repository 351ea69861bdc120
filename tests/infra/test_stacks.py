"""What the stages synthesize: the parts whose change somebody should see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from handlers.errors import InvalidConfig
from infra import base_images
from infra.rules import pack

from .conftest import Stage, Templates, resources, varied

REVIEWED = Path(__file__).parent / "reviewed_actions.json"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_every_stage_keeps_turnouts_own_rules(synthesize: Callable[[str], Templates], stage: str):
    assert pack.check(synthesize(stage), open_by_choice=stage == "local") == []


def allowed(templates: Templates) -> dict[str, list[str]]:
    """The actions of every role (or managed policy that nobody holds yet), by part, role and statement."""
    found: dict[str, set[str]] = {}
    for stack, template in templates.items():
        part = stack.split("-", 2)[2]
        for name, resource in template["Resources"].items():
            properties = resource.get("Properties", {})
            owners = [role["Ref"] for role in properties.get("Roles", [])] or [name]
            for statement in pack._statements(resource["Type"], properties):
                actions = statement["Action"]
                for owner in owners:
                    key = f"{part} {re.sub('[0-9A-F]{8}$', '', owner)} {statement.get('Sid', '-')}"
                    found.setdefault(key, set()).update(actions if isinstance(actions, list) else [actions])
    return {key: sorted(actions) for key, actions in found.items()}


def test_every_action_of_every_role_has_been_reviewed(synthesize: Callable[[str], Templates]):
    # The list that was reviewed is exactly this one (edit the file by hand after reviewing)
    assert allowed(synthesize("prod")) == json.loads(REVIEWED.read_text())["prod"]


def test_what_options_add_to_the_roles_has_been_reviewed(rest: Stage, fronts: Stage):
    # Given a REST API, a route that moves (auto) and one that leads to a front (split)
    reviewed = json.loads(REVIEWED.read_text())
    made = [allowed(stage.templates) for stage in (rest, fronts)]
    added: dict[str, list[str]] = {}
    for role in made:
        for key, actions in role.items():
            if reviewed["prod"].get(key) != actions:
                added[key] = sorted({*added.get(key, []), *actions})
    # Then what is not as in prod was reviewed, each with its reason
    assert added == {key: entry["actions"] for key, entry in reviewed["by option"].items()}
    assert all(entry["reason"] for entry in reviewed["by option"].values())
    # And behind a front that asks the GPU, the model's own function may not
    assert "api sst2ModelRole AskGpu" not in made[1]


def test_prod_functions_are_arm64_snapstarted_and_behind_an_alias(synthesize: Callable[[str], Templates]):
    prod = synthesize("prod")
    functions = {
        f["Properties"]["FunctionName"]: f["Properties"] for f in resources(prod, "AWS::Lambda::Function")
    }
    digits = functions["turnout-prod-digits"]
    assert digits["Architectures"] == ["arm64"]
    assert digits["Runtime"] == "python3.13"
    assert digits["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert digits["TracingConfig"] == {"Mode": "Active"}
    assert digits["Environment"]["Variables"]["TURNOUT_POINTER"] == "/turnout/prod/digits/release"
    assert {a["Properties"]["Name"] for a in resources(prod, "AWS::Lambda::Alias")} == {"live"}


def test_prod_routes_are_signed_and_local_ones_open(synthesize: Callable[[str], Templates]):
    for stage, expected in (("prod", {"AWS_IAM"}), ("local", {"NONE"})):
        routes = resources(synthesize(stage), "AWS::ApiGatewayV2::Route")
        assert {route["Properties"]["AuthorizationType"] for route in routes} == expected


def test_state_is_kept_in_production_only(synthesize: Callable[[str], Templates]):
    for stage, expected in (("prod", "Retain"), ("dev", "Delete")):
        kept = [
            r
            for kind in ("S3::Bucket", "DynamoDB::Table")
            for r in resources(synthesize(stage), f"AWS::{kind}")
        ]
        assert {resource["DeletionPolicy"] for resource in kept} == {expected}


def test_the_gpu_endpoint_waits_for_a_release_and_is_bounded(synthesize: Callable[[str], Templates]):
    stack = synthesize("prod")["turnout-prod-endpoint-digits"]
    for kind in ("Model", "EndpointConfig", "Endpoint", "InferenceComponent"):
        (resource,) = [r for r in stack["Resources"].values() if r["Type"] == f"AWS::SageMaker::{kind}"]
        assert resource["Condition"] == "HasRelease"
    (target,) = resources({"s": stack}, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["Properties"]["MinCapacity"], target["Properties"]["MaxCapacity"]) == (0, 1)
    (variant,) = resources({"s": stack}, "AWS::SageMaker::EndpointConfig")[0]["Properties"][
        "ProductionVariants"
    ]
    assert variant["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}


UNTAGGED = (
    *("IAM::Policy", "IAM::ManagedPolicy", "S3::BucketPolicy", "SNS::TopicPolicy", "SQS::QueuePolicy"),
    *("Lambda::Version", "Lambda::Alias", "Lambda::Permission", "CDK::Metadata"),
    *("ApiGatewayV2::Integration", "ApiGatewayV2::Route", "CloudWatch::Dashboard", "Scheduler::Schedule"),
    *("ApplicationAutoScaling::ScalableTarget", "ApplicationAutoScaling::ScalingPolicy"),
    *("CodeDeploy::DeploymentGroup", "Budgets::Budget", "Budgets::BudgetsAction"),
)


def test_everything_that_can_be_is_tagged_with_its_stage(synthesize: Callable[[str], Templates]):
    bare = set()
    for template in synthesize("prod").values():
        for name, resource in template["Resources"].items():
            tags = resource.get("Properties", {}).get("Tags", {})
            pairs = tags.items() if isinstance(tags, dict) else [(t["Key"], t["Value"]) for t in tags]
            if ("turnout:stage", "prod") not in pairs:
                bare.add((resource["Type"].removeprefix("AWS::"), name))
    assert {kind for kind, _ in bare} <= set(UNTAGGED), sorted(bare)


def test_auto_topology_routes_through_a_stage_variable_and_split_to_the_front(fronts: Stage):
    made = fronts.templates
    (stage,) = resources(made, "AWS::ApiGatewayV2::Stage")
    assert list(stage["Properties"]["StageVariables"]) == ["digits"]
    uris = [
        json.dumps(i["Properties"]["IntegrationUri"])
        for i in resources(made, "AWS::ApiGatewayV2::Integration")
    ]
    assert len(uris) == 2
    assert sum("${stageVariables.digits}" in uri for uri in uris) == 1
    assert sum("sst2Front" in uri for uri in uris) == 1
    names = {f["Properties"]["FunctionName"] for f in resources(made, "AWS::Lambda::Function")}
    fronted = {f"turnout-dev-{model}{end}" for model in ("digits", "sst2") for end in ("", "-front")}
    assert names == {*fronted, "turnout-dev-control"}
    assert "apigateway:PATCH" in json.dumps(made["turnout-dev-control"])


def test_memory_that_no_release_has_measured_is_one_vcpus_and_said_so(fronts: Stage):
    functions = [f["Properties"] for f in resources(fronts.templates, "AWS::Lambda::Function")]
    assert {f["FunctionName"]: f["MemorySize"] for f in functions}["turnout-dev-digits"] == 1769
    said = "\n".join(path.read_text() for path in fronts.folder.glob("*.json"))
    assert 'models.digits.memory_mb is \\"auto\\" and there is no release of digits here' in said
    assert 'models.sst2.memory_mb is \\"auto\\" and there is no release of sst2 here' in said


def test_a_classic_endpoint_rolls_out_blue_green_with_alarms(tmp_path: Path):
    classic = (
        'missed_escalation_usd = 0.0004\nkind = "classic"\nmin_instances = 1\nscaling = "target_tracking"\n'
        "data_capture_percent = 5\n"
    )
    options = 'attainment = 0.99\nreserved_concurrency = 20\ntraining.schedule = "rate(7 days)"\n'
    changes = ("missed_escalation_usd = 0.0004\n", classic), ("attainment = 0.99\n", options)
    made = varied(tmp_path, *changes).templates
    (endpoint,) = resources(made, "AWS::SageMaker::Endpoint")
    policy = endpoint["Properties"]["DeploymentConfig"]
    assert policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "CANARY"
    assert len(policy["AutoRollbackConfiguration"]["Alarms"]) == 2
    assert resources(made, "AWS::SageMaker::InferenceComponent") == []
    (tracking,) = resources(made, "AWS::ApplicationAutoScaling::ScalingPolicy")
    assert tracking["Properties"]["PolicyType"] == "TargetTrackingScaling"
    # And the other options of a model arrive: reserved concurrency, captured data, training by schedule
    (model,) = (
        f["Properties"]
        for f in resources(made, "AWS::Lambda::Function")
        if f["Properties"]["FunctionName"] == "turnout-dev-digits"
    )
    assert model["ReservedConcurrentExecutions"] == 20
    (config,) = resources(made, "AWS::SageMaker::EndpointConfig")
    assert config["Properties"]["DataCaptureConfig"]["InitialSamplingPercentage"] == 5
    schedules = {
        s["Properties"]["Name"]: s["Properties"] for s in resources(made, "AWS::Scheduler::Schedule")
    }
    training = schedules["turnout-dev-digits-training"]
    assert training["ScheduleExpression"] == "rate(7 days)"
    assert "Machine" in json.dumps(training["Target"]["Arn"])


def test_jwt_and_a_domain_by_option(tmp_path: Path):
    options = (
        '[stages.dev]\nauth = "jwt"\njwt = {issuer = "https://id.example.com", audience = ["turnout"]}\n'
        'domain = {name = "api.example.com", certificate_arn = "arn:aws:acm:us-east-1:1:certificate/1"}\n'
        'customer_key = true\ncors_origins = ["https://example.com"]\n'
    )
    made = varied(tmp_path, ("[stages.dev]\n", options)).templates
    assert {r["Properties"]["AuthorizationType"] for r in resources(made, "AWS::ApiGatewayV2::Route")} == {
        "JWT"
    }
    assert len(resources(made, "AWS::ApiGatewayV2::DomainName")) == 1
    # A browser's preflight is signed by nobody: no route may take it from API Gateway, which answers it
    keys = {r["Properties"]["RouteKey"] for r in resources(made, "AWS::ApiGatewayV2::Route")}
    assert {key.partition(" ")[0] for key in keys} == {"GET", "POST"}
    assert {"POST /v2/models/digits/{proxy+}", "GET /v2/models/{proxy+}"} <= keys
    (api,) = resources(made, "AWS::ApiGatewayV2::Api")
    allowed = api["Properties"]["CorsConfiguration"]["AllowHeaders"]
    assert {"authorization", "x-amz-date", "x-turnout-latency-slo-ms"} <= set(allowed)
    (key,) = resources(made, "AWS::KMS::Key")
    (by_service,) = (s for s in key["Properties"]["KeyPolicy"]["Statement"] if "Condition" in s)
    terms = by_service["Condition"]["StringEquals"]
    assert terms["kms:ViaService"] == ["s3.us-east-1.amazonaws.com", "dynamodb.us-east-1.amazonaws.com"]
    assert "kms:CallerAccount" in terms
    assert "kms:Decrypt" in by_service["Action"]


def test_a_rest_api_has_the_same_routes_authorised_throttled_and_logged(rest: Stage):
    made = rest.templates
    methods = resources(made, "AWS::ApiGateway::Method")
    assert {m["Properties"]["AuthorizationType"] for m in methods} == {"AWS_IAM"}
    http = [r["Properties"]["PathPart"] for r in resources(made, "AWS::ApiGateway::Resource")]
    assert sorted(http) == ["digits", "health", "models", "v2", "{proxy+}", "{proxy+}", "{proxy+}"]
    (stage,) = (s["Properties"] for s in resources(made, "AWS::ApiGateway::Stage"))
    (throttled,) = stage["MethodSettings"]
    assert (throttled["ThrottlingRateLimit"], throttled["ThrottlingBurstLimit"]) == (100, 200)
    assert "$context.status" in stage["AccessLogSetting"]["Format"]
    (api,) = (a["Properties"] for a in resources(made, "AWS::ApiGateway::RestApi"))
    assert api["BinaryMediaTypes"] == ["*/*"]
    # And its route moves by a stage variable, as the HTTP API's does
    assert json.dumps(stage["Variables"]["digits"]).endswith('":live"]]}')
    moved = [m for m in methods if "${stageVariables.digits}" in json.dumps(m["Properties"]["Integration"])]
    assert len(moved) == len(methods)
    text = json.dumps(made["turnout-dev-control"])
    assert "/restapis/" in text
    assert '\\"api_kind\\":\\"rest\\"' in text


def test_a_rest_api_that_serves_other_methods_is_deployed_anew(rest: Stage, tmp_path: Path):
    options = (
        '[stages.dev]\napi = "rest"\n'
        'domain = {name = "api.example.com", certificate_arn = "arn:aws:acm:us-east-1:1:certificate/1"}\n'
    )
    direct = varied(tmp_path, ("[stages.dev]\n", options)).templates
    (named,) = resources(direct, "AWS::ApiGateway::DomainName")
    assert named["Properties"]["SecurityPolicy"] == "TLS_1_2"
    assert len(resources(direct, "AWS::ApiGateway::BasePathMapping")) == 1
    ids = [
        {name for name, r in t["turnout-dev-api"]["Resources"].items() if r["Type"].endswith("::Deployment")}
        for t in (rest.templates, direct)
    ]
    assert ids[0].isdisjoint(ids[1])


def test_a_base_image_near_its_end_is_warned_of():
    image = base_images.base_image()
    assert base_images.warning(image, date(2027, 1, 1)) is None
    assert "end on 2027-07-20" in (base_images.warning(image, date(2027, 5, 1)) or "")
    assert "ended on 2027-07-20" in (base_images.warning(image, date(2027, 8, 1)) or "")
    with pytest.raises(InvalidConfig, match=r"one of pytorch-2\.13"):
        base_images.base_image("torchserve")
    assert base_images.uri(image, "af-south-1").startswith("626614931356.dkr.ecr.af-south-1")
