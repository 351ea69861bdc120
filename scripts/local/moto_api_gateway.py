"""The API Gateway v2 types for moto's CloudFormation: Api, Stage, Route, Integration, Authorizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from moto.apigatewayv2.models import ApiGatewayV2Backend, apigatewayv2_backends
from moto.apigatewayv2.responses import ApiGatewayV2Response

from scripts.local.moto_resource import Made, Wanted, teach


def teach_api_gateway() -> None:
    """Registers the five types with moto's CloudFormation, and the call that moves a route."""
    setattr(ApiGatewayV2Response, "update_stage", update_stage)  # noqa: B010 - moto's class has no such name
    teach("AWS::ApiGatewayV2::Api", name="Name", create=make_api, update=change_api, delete=drop_api)
    teach("AWS::ApiGatewayV2::Stage", create=make_stage, update=change_stage, delete=drop_stage)
    teach("AWS::ApiGatewayV2::Route", create=make_route, update=change_route, delete=drop_route)
    teach(
        "AWS::ApiGatewayV2::Integration",
        create=make_integration,
        update=change_integration,
        delete=drop_integration,
    )
    teach(
        "AWS::ApiGatewayV2::Authorizer",
        name="Name",
        create=make_authorizer,
        update=change_authorizer,
        delete=drop_authorizer,
    )


def lower_first(properties: Mapping[str, Any]) -> dict[str, Any]:
    """CloudFormation's `StageName` as API Gateway's own `stageName`; values stay as they are."""
    return {key[0].lower() + key[1:]: value for key, value in properties.items()}


def gateway(wanted: Wanted) -> ApiGatewayV2Backend:
    return apigatewayv2_backends[wanted.account_id][wanted.region]


API_KEYS = (
    "api_key_selection_expression",
    "cors_configuration",
    "description",
    "disable_schema_validation",
    "disable_execute_api_endpoint",
    "route_selection_expression",
    "version",
)
INTEGRATION_KEYS = (
    "connection_id",
    "connection_type",
    "content_handling_strategy",
    "credentials_arn",
    "description",
    "integration_method",
    "integration_subtype",
    "integration_type",
    "integration_uri",
    "passthrough_behavior",
    "payload_format_version",
    "request_parameters",
    "request_templates",
    "response_parameters",
    "template_selection_expression",
    "timeout_in_millis",
    "tls_config",
)
ROUTE_KEYS = (
    "api_key_required",
    "authorization_scopes",
    "authorization_type",
    "authorizer_id",
    "model_selection_expression",
    "operation_name",
    "request_models",
    "request_parameters",
    "route_key",
    "route_response_selection_expression",
    "target",
)
AUTHORIZER_KEYS = {
    "auth_creds_arn": "AuthorizerCredentialsArn",
    "auth_payload_format_version": "AuthorizerPayloadFormatVersion",
    "auth_result_ttl": "AuthorizerResultTtlInSeconds",
    "authorizer_type": "AuthorizerType",
    "authorizer_uri": "AuthorizerUri",
    "enable_simple_response": "EnableSimpleResponses",
    "identity_source": "IdentitySource",
    "identity_validation_expr": "IdentityValidationExpression",
    "jwt_config": "JwtConfiguration",
}


def snake_arguments(properties: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The back end's keyword arguments: `RouteKey` as `route_key`, absent ones as None."""
    return {key: properties.get("".join(part.capitalize() for part in key.split("_"))) for key in keys}


def make_api(wanted: Wanted) -> Made:
    p = wanted.properties
    api = gateway(wanted).create_api(
        name=wanted.name,
        protocol_type=p["ProtocolType"],
        tags=p.get("Tags", {}),
        **snake_arguments(p, API_KEYS),
    )
    return Made(api.api_id, {"ApiId": api.api_id, "ApiEndpoint": api.api_endpoint})


def change_api(made: Made, wanted: Wanted) -> Made:
    gateway(wanted).update_api(
        api_id=made.ref, name=wanted.name, **snake_arguments(wanted.properties, API_KEYS)
    )
    return made


def drop_api(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_api(made.ref)


def make_stage(wanted: Wanted) -> Made:
    gateway(wanted).create_stage(wanted.properties["ApiId"], lower_first(wanted.properties))
    return Made(wanted.properties["StageName"])


def change_stage(_made: Made, wanted: Wanted) -> Made:
    return make_stage(wanted)  # the back end replaces a stage of the same name


def update_stage(self: ApiGatewayV2Response) -> tuple[int, dict[str, str], str]:
    """UpdateStage, as far as the control loop uses it: other stage variables."""
    parts = self.path.split("/")
    stage = self.apigatewayv2_backend.get_stage(parts[-3], unquote(parts[-1]))
    stage.stage_variables = json.loads(self.body).get("stageVariables", stage.stage_variables)
    return 200, {}, json.dumps(stage.to_json())


def drop_stage(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_stage(wanted.properties["ApiId"], made.ref)


def make_integration(wanted: Wanted) -> Made:
    made = gateway(wanted).create_integration(
        api_id=wanted.properties["ApiId"], **snake_arguments(wanted.properties, INTEGRATION_KEYS)
    )
    return Made(made.id, {"IntegrationId": made.id})


def change_integration(made: Made, wanted: Wanted) -> Made:
    gateway(wanted).update_integration(
        api_id=wanted.properties["ApiId"],
        integration_id=made.ref,
        **snake_arguments(wanted.properties, INTEGRATION_KEYS),
    )
    return made


def drop_integration(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_integration(wanted.properties["ApiId"], made.ref)


def make_route(wanted: Wanted) -> Made:
    p = wanted.properties
    route = gateway(wanted).create_route(api_id=p["ApiId"], **snake_arguments(p, ROUTE_KEYS))
    return Made(route.route_id, {"RouteId": route.route_id})


def change_route(made: Made, wanted: Wanted) -> Made:
    p = wanted.properties
    gateway(wanted).update_route(api_id=p["ApiId"], route_id=made.ref, **snake_arguments(p, ROUTE_KEYS))
    return made


def drop_route(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_route(wanted.properties["ApiId"], made.ref)


def make_authorizer(wanted: Wanted) -> Made:
    p = wanted.properties
    arguments: dict[str, Any] = {key: p.get(source) for key, source in AUTHORIZER_KEYS.items()}
    made = gateway(wanted).create_authorizer(api_id=p["ApiId"], name=wanted.name, **arguments)
    return Made(made.id, {"AuthorizerId": made.id})


def change_authorizer(made: Made, wanted: Wanted) -> Made:
    p = wanted.properties
    arguments: dict[str, Any] = {key: p.get(source) for key, source in AUTHORIZER_KEYS.items()}
    gateway(wanted).update_authorizer(
        api_id=p["ApiId"], authorizer_id=made.ref, name=wanted.name, **arguments
    )
    return made


def drop_authorizer(made: Made, wanted: Wanted) -> None:
    gateway(wanted).delete_authorizer(wanted.properties["ApiId"], made.ref)
