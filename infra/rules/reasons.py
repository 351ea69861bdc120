"""Why a finding of cdk-nag stands, each scoped to one resource; a test fails on any other finding.

`{stage}` and `{model}` stand for a stage's and a model's name. A finding that no longer occurs fails too.
"""

from __future__ import annotations

from dataclasses import dataclass

AT_REST = "CodeBuild encrypts its artefacts with the account's own S3 key; there are none to keep"
NEW_FILES = "its objects are named by content hash or job, unknown before; the prefix is its own"
WITHOUT_RESOURCES = "one statement, by its Sid in infra/rules/pack.py, for actions that have no resources"


@dataclass(frozen=True, slots=True)
class Reason:
    """`rule` and `path` (a construct's, without `/Resource`) name one finding; `why` is for the reader."""

    rule: str
    path: str
    why: str


def _iam5(path: str, resource: str, why: str) -> Reason:
    return Reason(f"AwsSolutions-IAM5[Resource::{resource}]", f"{path}/DefaultPolicy", why)


def _arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{{region}}:<AWS::AccountId>:{resource}"


BUCKET = "arn:aws:s3:::turnout-{stage}-releases-<AWS::AccountId>"
API, TRAINING, CONTROL = "turnout-{stage}-api", "turnout-{stage}-training", "turnout-{stage}-control"
ENDPOINT = "turnout-{stage}-endpoint-{model}"
MACHINE, BUILD = f"{TRAINING}/Train-{{model}}/Role", f"{TRAINING}/Build/Role"
LATEST = "3.13 is what the package's wheels are built, byte-compiled and tested for"

REASONS = (
    *(
        Reason(rule, f"{path}/Function", LATEST)
        for path in (f"{API}/{{model}}/Model", f"{CONTROL}/Control")
        for rule in ("AwsSolutions-L1", "Serverless-LambdaLatestVersion")
    ),
    Reason(
        "Serverless-LambdaDLQ", f"{API}/{{model}}/Model/Function", "it is only ever invoked synchronously"
    ),
    _iam5(f"{API}/{{model}}/Model/Role", "*", WITHOUT_RESOURCES),
    _iam5(f"{API}/{{model}}/Model/Role", f"{BUCKET}/releases/{{model}}/*", NEW_FILES),
    Reason(
        "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited]",
        f"{API}/{{model}}/ModelRollout/ServiceRole",
        "the limited policy that AWS maintains for exactly this role; CDK attaches it",
    ),
    _iam5(f"{CONTROL}/Control/Role", "*", WITHOUT_RESOURCES),
    _iam5(f"{CONTROL}/Control/Role", f"{BUCKET}/releases/{{model}}/*/manifest.json", NEW_FILES),
    Reason("Serverless-SQSRedrivePolicy", f"{CONTROL}/Missed", "it is itself the dead-letter queue"),
    _iam5(f"{ENDPOINT}/Role", "*", WITHOUT_RESOURCES),
    _iam5(f"{ENDPOINT}/Role", _arn("logs", "log-group:/aws/sagemaker/*"), "SageMaker names the log groups"),
    _iam5(f"{ENDPOINT}/Role", f"{BUCKET}/releases/{{model}}/*", NEW_FILES),
    Reason("AwsSolutions-CB4", f"{TRAINING}/Build/Project", AT_REST),
    Reason("AwsSolutions-CB4", f"{TRAINING}/ImageBuilder/Project", AT_REST),
    _iam5(
        BUILD, _arn("cloudformation", f"stack/{ENDPOINT}/*"), "a stack's ARN ends in an id made at creation"
    ),
    _iam5(BUILD, _arn("cloudwatch", "alarm:turnout-{stage}-*"), "it watches every alarm of the stage"),
    _iam5(
        BUILD, _arn("lambda", "function:turnout-{stage}-{model}:*"), "versions are numbered when published"
    ),
    _iam5(
        BUILD,
        _arn("lambda", "function:turnout-{stage}-{model}-front:*"),
        "versions are numbered when published",
    ),
    _iam5(BUILD, f"{BUCKET}/releases/*", NEW_FILES),
    _iam5(BUILD, f"{BUCKET}/training/*", NEW_FILES),
    _iam5(f"{TRAINING}/ImageBuilder/Role", "*", WITHOUT_RESOURCES),
    _iam5(MACHINE, "*", WITHOUT_RESOURCES),
    _iam5(MACHINE, f"{BUCKET}/training/{{model}}/*", NEW_FILES),
    _iam5(MACHINE, _arn("sagemaker", "model-package/turnout-{stage}-{model}/*"), "versions are numbered"),
    _iam5(MACHINE, _arn("sagemaker", "training-job/*"), "a job is named by the execution that starts it"),
    _iam5(f"{TRAINING}/Trainer", "*", WITHOUT_RESOURCES),
    _iam5(
        f"{TRAINING}/Trainer", _arn("logs", "log-group:/aws/sagemaker/TrainingJobs*"), "SageMaker names it"
    ),
    _iam5(f"{TRAINING}/Trainer", f"{BUCKET}/training/*", NEW_FILES),
)


def expanded(stage: str, region: str, models: list[str]) -> dict[tuple[str, str], str]:
    """Reasons of one stage by (rule, construct path), with every name filled in."""
    found = {}
    for reason in REASONS:
        for model in models:
            names = {"stage": stage, "model": model, "region": region}
            found[_fill(reason.rule, names), _fill(reason.path, names)] = reason.why
    return found


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text
