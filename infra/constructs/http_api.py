"""The HTTP API: a route a model, authorised unless the stage says otherwise, throttled, logged."""

from __future__ import annotations

import json
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigw
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Domain, Stage
from infra.constructs.function import RETENTION
from infra.names import API_STAGE, route_variable

INTEGRATION_TIMEOUT_MS = 30_000
LOG_FORMAT = {
    "requestId": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "time": "$context.requestTime",
    "route": "$context.routeKey",
    "status": "$context.status",
    "latencyMs": "$context.responseLatency",
    "integrationMs": "$context.integrationLatency",
    "responseBytes": "$context.responseLength",
    "error": "$context.error.message",
}


@dataclass(frozen=True, slots=True)
class Authorization:
    """How a route is authorised: AWS_IAM, JWT or NONE, and the authorizer that JWT needs."""

    type: str
    authorizer_id: str | None


class HttpApi(Construct):
    """Routes `/v2/models/{model}` to the model's function, everything else of `/v2` to the first model's.

    A model with several targets (topology auto) is routed through a stage variable that holds a
    `function:alias`, which the control loop rewrites; the others are routed directly.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        settings: Stage,
        targets: dict[str, list[lambda_.Alias]],
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings = settings
        self.api = apigw.CfnApi(
            self,
            "Api",
            name=name,
            protocol_type="HTTP",
            description="turnout: Open Inference Protocol v2",
            cors_configuration=self._cors(),
        )
        self._authorization = self._authorize()
        integrations = {model: self._integrate(model, aliases) for model, aliases in targets.items()}
        for model, integration in integrations.items():
            self._route(f"ANY /v2/models/{model}", integration)
            self._route(f"ANY /v2/models/{model}/{{proxy+}}", integration)
        first = next(iter(integrations.values()))
        for key in ("GET /v2", "GET /v2/health/{proxy+}", "ANY /v2/models/{proxy+}"):
            self._route(key, first)
        self.stage = self._stage(name, targets)
        if settings.domain:
            self._name(settings.domain)
        self.url = f"https://{self.api.ref}.execute-api.{cdk.Stack.of(self).region}.{cdk.Aws.URL_SUFFIX}"

    def _name(self, domain: Domain) -> None:
        """The API under its own name; point a DNS alias at the output of the stack."""
        named = apigw.CfnDomainName(
            self,
            "Domain",
            domain_name=domain.name,
            domain_name_configurations=[
                apigw.CfnDomainName.DomainNameConfigurationProperty(
                    certificate_arn=domain.certificate_arn,
                    endpoint_type="REGIONAL",
                    security_policy="TLS_1_2",
                )
            ],
        )
        mapping = apigw.CfnApiMapping(
            self, "Mapping", api_id=self.api.ref, domain_name=named.ref, stage=self.stage.ref
        )
        mapping.add_resource_dependency(self.stage)
        cdk.CfnOutput(self, "DnsAlias", value=named.attr_regional_domain_name)

    def _cors(self) -> apigw.CfnApi.CorsProperty | None:
        origins = list(self._settings.cors_origins)
        if not origins:
            return None
        return apigw.CfnApi.CorsProperty(
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["content-type", "authorization"],
        )

    def _authorize(self) -> Authorization:
        """The authorisation of every route."""
        jwt = self._settings.jwt
        if self._settings.auth == "jwt" and jwt:
            authorizer = apigw.CfnAuthorizer(
                self,
                "Jwt",
                api_id=self.api.ref,
                name="jwt",
                authorizer_type="JWT",
                identity_source=["$request.header.Authorization"],
                jwt_configuration=apigw.CfnAuthorizer.JWTConfigurationProperty(
                    issuer=jwt.issuer, audience=list(jwt.audience)
                ),
            )
            return Authorization("JWT", authorizer.ref)
        return Authorization("AWS_IAM" if self._settings.auth == "iam" else "NONE", None)

    def _integrate(self, model: str, aliases: list[lambda_.Alias]) -> apigw.CfnIntegration:
        stack = cdk.Stack.of(self)
        arn = aliases[0].function_arn
        if len(aliases) > 1:
            function = stack.format_arn(
                service="lambda",
                resource="function",
                resource_name="${stageVariables." + route_variable(model) + "}",
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            arn = stack.format_arn(
                service="apigateway",
                account="lambda",
                resource="path/2015-03-31/functions",
                resource_name=f"{function}/invocations",
            )
        integration = apigw.CfnIntegration(
            self,
            f"Integration-{model}",
            api_id=self.api.ref,
            integration_type="AWS_PROXY",
            integration_uri=arn,
            integration_method="POST",
            payload_format_version="2.0",
            timeout_in_millis=INTEGRATION_TIMEOUT_MS,
        )
        source = stack.format_arn(
            service="execute-api",
            resource=self.api.ref,
            resource_name="*/*",
            arn_format=cdk.ArnFormat.SLASH_RESOURCE_NAME,
        )
        for number, alias in enumerate(aliases):
            lambda_.CfnPermission(
                self,
                f"Invoke-{model}-{number}",
                action="lambda:InvokeFunction",
                function_name=alias.function_arn,
                principal="apigateway.amazonaws.com",
                source_arn=source,
            )
        return integration

    def _route(self, key: str, integration: apigw.CfnIntegration) -> None:
        apigw.CfnRoute(
            self,
            f"Route {key.replace('/', '_')}",
            api_id=self.api.ref,
            route_key=key,
            target=f"integrations/{integration.ref}",
            authorization_type=self._authorization.type,
            authorizer_id=self._authorization.authorizer_id,
        )

    def _stage(self, name: str, targets: dict[str, list[lambda_.Alias]]) -> apigw.CfnStage:
        group = logs.LogGroup(
            self,
            "AccessLogs",
            log_group_name=f"/aws/apigateway/{name}",
            retention=logs.RetentionDays[RETENTION[self._settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        movable = {
            route_variable(model): f"{aliases[0].lambda_.function_name}:{aliases[0].alias_name}"
            for model, aliases in targets.items()
            if len(aliases) > 1
        }
        return apigw.CfnStage(
            self,
            "Stage",
            api_id=self.api.ref,
            stage_name=API_STAGE,
            auto_deploy=True,
            stage_variables=movable or None,
            default_route_settings=apigw.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=self._settings.throttle_rps,
                throttling_burst_limit=self._settings.throttle_burst,
                detailed_metrics_enabled=True,
            ),
            access_log_settings=apigw.CfnStage.AccessLogSettingsProperty(
                destination_arn=group.log_group_arn, format=json.dumps(LOG_FORMAT)
            ),
        )
