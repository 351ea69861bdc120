"""The training state machine in Amazon States Language. Pure: names and settings in, a definition out.

    Prepare -> Train (one state an instance type, next on lack of capacity) -> Compress -> ReadVerdict
      -> Gate -> Register -> Deploy -> Verify -> Ready? -> Released
    anything that fails before Deploy -> Failed; Deploy, Verify or not ready -> RollBack -> Failed

Every failure is published to the topic. A gate that fails stops the release before it is registered.
"""

from __future__ import annotations

from typing import Any

from infra.config import Training
from infra.constructs.training_job import TrainingNames, in_execution, training_job

State = dict[str, Any]
MAX_WAIT_FOR_BUILD_S = 3 * 3600
LACKING = ("*CapacityError*", "*InsufficientCapacity*", "*ResourceLimitExceeded*")
FAILED = "$.failure"


def definition(names: TrainingNames, settings: Training) -> dict[str, Any]:
    """The machine of one model; `settings` bounds its run time and lists its instance types in order."""
    return {
        "Comment": f"turnout: train, compress, gate, release {names.model}",
        "StartAt": "Prepare",
        "States": {
            "Prepare": _build(
                names, "prepare", then=_train_name(settings.instance_types[0]), failed="Notify"
            ),
            **_training(names, settings),
            "Compress": _build(names, "compress", then="ReadVerdict", failed="Notify"),
            "ReadVerdict": _read_verdict(names),
            "Gate": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.verdict.passed", "StringEquals": "true", "Next": "Register"}],
                "Default": "GateFailed",
            },
            "GateFailed": {
                "Type": "Pass",
                "Result": {
                    "Error": "GateFailed",
                    "Cause": "a gate refused it: see verdict.json",
                },
                "ResultPath": FAILED,
                "Next": "Notify",
            },
            "Register": _register(names),
            "Deploy": _build(names, "deploy", then="Verify", failed="RollBack"),
            "Verify": _verify(names),
            "Ready": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.ready.status", "NumericEquals": 200, "Next": "Released"}],
                "Default": "NotReady",
            },
            "NotReady": {
                "Type": "Pass",
                "Result": {"Error": "NotReady", "Cause": "the deployed function does not answer as ready"},
                "ResultPath": FAILED,
                "Next": "RollBack",
            },
            "Released": {"Type": "Succeed"},
            "RollBack": _build(names, "rollback", then="Notify", failed="Notify", keeps_failure=True),
            "Notify": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sns:publish",
                "Parameters": {
                    "TopicArn": names.topic_arn,
                    "Subject": f"turnout {names.stage}: training {names.model} failed",
                    "Message.$": "States.JsonToString($.failure)",
                },
                "ResultPath": None,
                "Retry": [_retry("States.ALL")],
                "Next": "Failed",
            },
            "Failed": {"Type": "Fail", "Error": "TrainingFailed", "CausePath": "$.failure.Cause"},
        },
    }


def _training(names: TrainingNames, settings: Training) -> dict[str, State]:
    states: dict[str, State] = {}
    types = settings.instance_types
    for number, instance_type in enumerate(types):
        following = types[number + 1] if number + 1 < len(types) else None
        failed = f"Lacking {instance_type}?" if following else "Notify"
        states[_train_name(instance_type)] = {
            "Type": "Task",
            "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
            "Parameters": training_job(names, settings, instance_type, number + 1),
            "ResultPath": "$.training",
            "Retry": [_retry("SageMaker.ThrottlingException")],
            "Catch": [_catch(failed)],
            "Next": "Compress",
        }
        if following:
            states[failed] = {
                "Type": "Choice",
                "Choices": [
                    {
                        "Or": [
                            {"Variable": path, "StringMatches": pattern}
                            for path in ("$.failure.Cause", "$.failure.Error")
                            for pattern in LACKING
                        ],
                        "Next": _train_name(following),
                    }
                ],
                "Default": "Notify",
            }
    return states


def _build(
    names: TrainingNames, command: str, *, then: str, failed: str, keeps_failure: bool = False
) -> State:
    """One run of the builder: `prepare` data, `compress` weights, `deploy` the release, or `rollback`."""
    environment = [
        {"Name": "TURNOUT_COMMAND", "Value": command, "Type": "PLAINTEXT"},
        {"Name": "TURNOUT_MODEL", "Value": names.model, "Type": "PLAINTEXT"},
        {"Name": "TURNOUT_JOB", "Value.$": in_execution(names.job_uri), "Type": "PLAINTEXT"},
        {"Name": "TURNOUT_DATA", "Value": names.data_uri, "Type": "PLAINTEXT"},
    ]
    if command == "compress":
        weights = "$.training.ModelArtifacts.S3ModelArtifacts"
        environment.append({"Name": "TURNOUT_TRAINED", "Value.$": weights, "Type": "PLAINTEXT"})
    if command in ("deploy", "rollback"):
        environment.append({"Name": "TURNOUT_RELEASE", "Value.$": "$.verdict.release", "Type": "PLAINTEXT"})
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::codebuild:startBuild.sync",
        "Parameters": {"ProjectName": names.builder, "EnvironmentVariablesOverride": environment},
        "ResultSelector": {"build.$": "$.Build.Id"},
        "ResultPath": f"$.{command}",
        "TimeoutSeconds": MAX_WAIT_FOR_BUILD_S,
        "Catch": [_catch(failed, "$.rollback" if keeps_failure else FAILED)],
        "Next": then,
    }


def _read_verdict(names: TrainingNames) -> State:
    """The verdict is in the metadata of verdict.json, whose body is the report of the gates."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:headObject",
        "Parameters": {
            "Bucket": names.bucket,
            "Key.$": in_execution(f"training/{names.model}/{{}}/verdict.json"),
        },
        "ResultSelector": {"passed.$": "$.Metadata.passed", "release.$": "$.Metadata.release"},
        "ResultPath": "$.verdict",
        "Catch": [_catch("Notify")],
        "Next": "Gate",
    }


def _register(names: TrainingNames) -> State:
    """A version in the model package group, approved because its gates passed."""
    prefix = f"s3://{names.bucket}/releases/{names.model}/{{}}/"
    container = {
        "Image": names.image,
        "ModelDataSource": {
            "S3DataSource": {
                "S3Uri.$": f"States.Format('{prefix}', $.verdict.release)",
                "S3DataType": "S3Prefix",
                "CompressionType": "None",
            }
        },
    }
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:sagemaker:createModelPackage",
        "Parameters": {
            "ModelPackageGroupName": names.packages,
            "ModelPackageDescription.$": "States.Format('release {}', $.verdict.release)",
            "ModelApprovalStatus": "Approved",
            "InferenceSpecification": {
                "Containers": [container],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        },
        "ResultPath": "$.package",
        "Retry": [_retry("SageMaker.ThrottlingException")],
        "Catch": [_catch("Notify")],
        "Next": "Deploy",
    }


def _verify(names: TrainingNames) -> State:
    """Ask the deployed function, as the API would, whether the model is ready."""
    path = f"/v2/models/{names.model}/ready"
    event = {
        "version": "2.0",
        "routeKey": "ANY /v2/models/{proxy+}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"accept": "application/json"},
        "requestContext": {
            "http": {"method": "GET", "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"},
            "requestId": "training-verify",
            "stage": "$default",
            "routeKey": "ANY /v2/models/{proxy+}",
        },
        "isBase64Encoded": False,
    }
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": names.alias, "Payload": event},
        "ResultSelector": {"status.$": "$.Payload.statusCode"},
        "ResultPath": "$.ready",
        "Retry": [_retry("Lambda.TooManyRequestsException", "Lambda.ServiceException")],
        "Catch": [_catch("RollBack")],
        "Next": "Ready",
    }


def _catch(following: str, path: str = FAILED) -> dict[str, Any]:
    return {"ErrorEquals": ["States.ALL"], "ResultPath": path, "Next": following}


def _retry(*errors: str) -> dict[str, Any]:
    return {"ErrorEquals": list(errors), "IntervalSeconds": 5, "MaxAttempts": 4, "BackoffRate": 2.0}


def _train_name(instance_type: str) -> str:
    return f"Train on {instance_type}"
