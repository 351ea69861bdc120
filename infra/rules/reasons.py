"""Why a finding of cdk-nag stands, each scoped to one resource; a test fails on any other finding.

`{stage}`, `{model}`, `{region}` and `{account}` stand for a stage's own; a finding that no longer occurs in a
stage whose deployment should have it fails too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.config import Model
from infra.deployment import Deployment

AT_REST = "CodeBuild encrypts its artefacts with the account's own S3 key; there are none to keep"
NEW_FILES = "its objects are named by content hash or job, unknown before; the prefix is its own"
WITHOUT_RESOURCES = "one statement, by its Sid in infra/rules/pack.py, for actions that have no resources"
LATEST = "3.13 is what the package's wheels are built, byte-compiled and tested for; the laptop runs its own"
NUMBERED = "versions are numbered when published"
OPEN = "the stage says auth = none, which is refused where production is true"


@dataclass(frozen=True, slots=True)
class Reason:
    """`rule` and `path` (a construct's, without `/Resource`) name one finding; `why` is for the reader."""

    rule: str
    path: str
    why: str


def _iam4(path: str, policy: str, why: str) -> Reason:
    arn = f"arn:<AWS::Partition>:iam::aws:policy/service-role/{policy}"
    return Reason(f"AwsSolutions-IAM4[Policy::{arn}]", path, why)


def _iam5(path: str, resource: str, why: str) -> Reason:
    return Reason(f"AwsSolutions-IAM5[Resource::{resource}]", f"{path}/DefaultPolicy", why)


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{{region}}:{{account}}:{resource}"


BUCKET = "arn:aws:s3:::turnout-{stage}-releases-{account}"
API, TRAINING, CONTROL = "turnout-{stage}-api", "turnout-{stage}-training", "turnout-{stage}-control"
ENDPOINT = "turnout-{stage}-endpoint-{model}"
MACHINE, BUILD = f"{TRAINING}/Train-{{model}}/Role", f"{TRAINING}/Build/Role"
TRAINER, IMAGE = f"{TRAINING}/Trainer", f"{TRAINING}/ImageBuilder"
QUEUE = "it is itself the dead-letter queue"
EVERY_PATH = (
    ("ANY", "_v2_models_{model}"),
    ("ANY", "_v2_models_{model}_{proxy+}"),
    ("GET", "_v2"),
    ("GET", "_v2_health_{proxy+}"),
    ("ANY", "_v2_models_{proxy+}"),
)

STAGE = (
    Reason("AwsSolutions-L1", f"{CONTROL}/Control/Function", LATEST),
    Reason("Serverless-LambdaLatestVersion", f"{CONTROL}/Control/Function", LATEST),
    _iam5(f"{CONTROL}/Control/Role", "*", WITHOUT_RESOURCES),
    Reason("Serverless-SQSRedrivePolicy", f"{CONTROL}/Missed", QUEUE),
    Reason("AwsSolutions-CB4", f"{TRAINING}/Build/Project", AT_REST),
    Reason("AwsSolutions-CB4", f"{IMAGE}/Project", AT_REST),
    _iam5(BUILD, _arn("cloudwatch", "alarm:turnout-{stage}-*"), "it watches every alarm of the stage"),
    _iam5(BUILD, f"{BUCKET}/releases/*", NEW_FILES),
    _iam5(BUILD, f"{BUCKET}/training/*", NEW_FILES),
    _iam5(BUILD, f"{BUCKET}/data/*", NEW_FILES),
    _iam5(f"{IMAGE}/Role", "*", WITHOUT_RESOURCES),
    _iam5(TRAINER, "*", WITHOUT_RESOURCES),
    _iam5(TRAINER, _arn("logs", "log-group:/aws/sagemaker/TrainingJobs*"), "SageMaker names it"),
    _iam5(TRAINER, f"{BUCKET}/training/*", NEW_FILES),
    _iam5(TRAINER, f"{BUCKET}/data/*", NEW_FILES),
)
MODEL = (
    _iam5(f"{CONTROL}/Control/Role", f"{BUCKET}/releases/{{model}}/*/manifest.json", NEW_FILES),
    _iam5(MACHINE, "*", WITHOUT_RESOURCES),
    _iam5(MACHINE, f"{BUCKET}/training/{{model}}/*", NEW_FILES),
    _iam5(MACHINE, _arn("sagemaker", "model-package/turnout-{stage}-{model}/*"), NUMBERED),
    _iam5(MACHINE, _arn("sagemaker", "training-job/*"), "a job is named by the execution that starts it"),
)
GPU = (
    _iam5(f"{ENDPOINT}/Role", "*", WITHOUT_RESOURCES),
    _iam5(f"{ENDPOINT}/Role", _arn("logs", "log-group:/aws/sagemaker/*"), "SageMaker names the log groups"),
    _iam5(f"{ENDPOINT}/Role", f"{BUCKET}/releases/{{model}}/*", NEW_FILES),
    _iam5(
        BUILD, _arn("cloudformation", f"stack/{ENDPOINT}/*"), "a stack's ARN ends in an id made at creation"
    ),
)
REST = (
    Reason("AwsSolutions-APIG2", f"{API}/Http/Api", "the function checks every field by name"),
    Reason("AwsSolutions-APIG3", f"{API}/Http/Stage", "a web ACL costs by the month"),
    _iam4(
        f"{API}/Http/LogRole",
        "AmazonAPIGatewayPushToCloudWatchLogs",
        "the policy that API Gateway asks for by name before it logs",
    ),
)


def _function(model: Model, part: str, name: str, *, front: bool) -> Iterator[Reason]:
    """Of one function: `part` is its construct, `name` what it is called."""
    construct = f"{API}/{{model}}/{part}"
    yield Reason("AwsSolutions-L1", f"{construct}/Function", LATEST)
    yield Reason("Serverless-LambdaLatestVersion", f"{construct}/Function", LATEST)
    if model.has_shadows and (front or model.topology != "split"):
        yield Reason("Serverless-SQSRedrivePolicy", f"{construct}Missed", QUEUE)
    else:
        why = "it is only ever invoked synchronously"
        yield Reason("Serverless-LambdaDLQ", f"{construct}/Function", why)
    yield _iam5(f"{construct}/Role", "*", WITHOUT_RESOURCES)
    yield _iam5(f"{construct}/Role", f"{BUCKET}/releases/{{model}}/*", NEW_FILES)
    yield _iam4(
        f"{construct}Rollout/ServiceRole",
        "AWSCodeDeployRoleForLambdaLimited",
        "the limited policy that AWS maintains for exactly this role; CDK attaches it",
    )
    yield _iam5(BUILD, _arn("lambda", f"function:{name}:*"), NUMBERED)


def _of_model(model: Model) -> Iterator[Reason]:
    yield from MODEL
    yield from _function(model, "Model", "turnout-{stage}-{model}", front=False)
    if model.topology != "colocated":
        yield from _function(model, "Front", "turnout-{stage}-{model}-front", front=True)
    if model.gpu:
        yield from GPU


def expanded(deployment: Deployment) -> dict[tuple[str, str], str]:
    """The reasons of one deployment by (rule, construct path), with every name filled in."""
    settings = deployment.settings
    rest = settings.api == "rest"
    routed = [f"{API}/Http/{'Method' if rest else 'Route'} {verb} {path}" for verb, path in EVERY_PATH]
    everywhere = [*STAGE, *(REST if rest else ())]
    if settings.auth == "none":
        everywhere += [Reason("AwsSolutions-APIG4", path, OPEN) for path in routed]
    if rest:
        everywhere += [Reason("AwsSolutions-COG4", path, "IAM authorises, or nobody") for path in routed]
    found = {}
    for name, model in deployment.models.items():
        names = {
            "stage": deployment.stage,
            "model": name,
            "region": settings.region,
            "account": settings.account or "<AWS::AccountId>",
        }
        for reason in (*everywhere, *_of_model(model)):
            found[_fill(reason.rule, names), _fill(reason.path, names)] = reason.why
    return found


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text
