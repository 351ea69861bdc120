"""The two types of a REST API that moto's CloudFormation lacks: Stage and Account."""

from __future__ import annotations

from moto.apigateway.models import APIGatewayBackend, apigateway_backends

from scripts.local.moto_resource import Made, Wanted, teach


def teach_rest_api() -> None:
    """Registers both types with moto's CloudFormation."""
    teach("AWS::ApiGateway::Stage", create=make_stage, update=change_stage, delete=drop_stage)
    teach("AWS::ApiGateway::Account", create=make_account, update=change_account, delete=keep_account)


def gateway(wanted: Wanted) -> APIGatewayBackend:
    return apigateway_backends[wanted.account_id][wanted.region]


def make_stage(wanted: Wanted) -> Made:
    p = wanted.properties
    deployment = p["DeploymentId"]  # to moto, Ref of a deployment is the deployment
    gateway(wanted).create_stage(
        p["RestApiId"],
        p["StageName"],
        getattr(deployment, "id", deployment),
        variables=dict(p.get("Variables", {})),
        tracing_enabled=p.get("TracingEnabled"),
    )
    return Made(p["StageName"])


def change_stage(made: Made, wanted: Wanted) -> Made:
    drop_stage(made, wanted)
    return make_stage(wanted)


def drop_stage(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_stage(wanted.properties["RestApiId"], made.ref)


def make_account(wanted: Wanted) -> Made:
    change = {"op": "replace", "path": "/cloudwatchRoleArn", "value": wanted.properties["CloudWatchRoleArn"]}
    gateway(wanted).update_account([change])
    return Made("account")


def change_account(_made: Made, wanted: Wanted) -> Made:
    return make_account(wanted)


def keep_account(_made: Made, _wanted: Wanted) -> None:
    """An account has no settings to delete; AWS leaves them too."""
