"""The HTTP API: a route a model, authorised unless the stage says otherwise, throttled, logged."""

from __future__ import annotations

import json
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_apigatewayv2 as apigw
from constructs import Construct

from handlers.protocol.constraints import HEADER_PREFIX, PARSERS
from infra.config import Domain, Stage
from infra.constructs.api_parts import Targets, access_logs, invocation_uri, permit, stage_variables
from infra.names import API_STAGES

INTEGRATION_TIMEOUT_MS = 30_000
METHODS = ("GET", "POST")
SIGNATURE = ("authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
BINARY = "inference-header-content-length"
CONSTRAINTS = tuple(HEADER_PREFIX + name.replace("_", "-") for name in PARSERS)
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
        self, scope: Construct, construct_id: str, *, name: str, settings: Stage, targets: Targets
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
        self.api_id = self.api.ref
        self._authorization = self._authorize()
        integrations = {
            model: apigw.CfnIntegration(
                self,
                f"Integration-{model}",
                api_id=self.api_id,
                integration_type="AWS_PROXY",
                # A fixed route names the alias itself: CloudFormation then sees what it depends on.
                integration_uri=(
                    aliases[0].function_arn if len(aliases) == 1 else invocation_uri(self, model, aliases)
                ),
                integration_method="POST",
                payload_format_version="2.0",
                timeout_in_millis=INTEGRATION_TIMEOUT_MS,
            )
            for model, aliases in targets.items()
        }
        permit(self, self.api_id, targets)
        first = next(iter(integrations.values()))
        # An ANY route would take a browser's preflight too, which nobody signs, before API Gateway answers.
        for verb in METHODS if settings.cors_origins else ("ANY",):
            for model, integration in integrations.items():
                self._route(f"{verb} /v2/models/{model}", integration)
                self._route(f"{verb} /v2/models/{model}/{{proxy+}}", integration)
            self._route(f"{verb} /v2/models/{{proxy+}}", first)
        for key in ("GET /v2", "GET /v2/health/{proxy+}"):
            self._route(key, first)
        self.stage = self._stage(name, targets)
        if settings.domain:
            self._name(settings.domain)
        self.url = f"https://{self.api_id}.execute-api.{cdk.Stack.of(self).region}.{cdk.Aws.URL_SUFFIX}"

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
            self, "Mapping", api_id=self.api_id, domain_name=named.ref, stage=self.stage.ref
        )
        mapping.add_resource_dependency(self.stage)
        cdk.CfnOutput(self, "DnsAlias", value=named.attr_regional_domain_name)

    def _cors(self) -> apigw.CfnApi.CorsProperty | None:
        origins = list(self._settings.cors_origins)
        if not origins:
            return None
        return apigw.CfnApi.CorsProperty(
            allow_origins=origins,
            allow_methods=list(METHODS),
            allow_headers=[*SIGNATURE, "content-type", BINARY, *CONSTRAINTS],
            expose_headers=[BINARY, "server-timing", "retry-after"],
        )

    def _authorize(self) -> Authorization:
        """The authorisation of every route."""
        jwt = self._settings.jwt
        if self._settings.auth == "jwt" and jwt:
            authorizer = apigw.CfnAuthorizer(
                self,
                "Jwt",
                api_id=self.api_id,
                name="jwt",
                authorizer_type="JWT",
                identity_source=["$request.header.Authorization"],
                jwt_configuration=apigw.CfnAuthorizer.JWTConfigurationProperty(
                    issuer=jwt.issuer, audience=list(jwt.audience)
                ),
            )
            return Authorization("JWT", authorizer.ref)
        return Authorization("AWS_IAM" if self._settings.auth == "iam" else "NONE", None)

    def _route(self, key: str, integration: apigw.CfnIntegration) -> None:
        apigw.CfnRoute(
            self,
            f"Route {key.replace('/', '_')}",
            api_id=self.api_id,
            route_key=key,
            target=f"integrations/{integration.ref}",
            authorization_type=self._authorization.type,
            authorizer_id=self._authorization.authorizer_id,
        )

    def _stage(self, name: str, targets: Targets) -> apigw.CfnStage:
        return apigw.CfnStage(
            self,
            "Stage",
            api_id=self.api_id,
            stage_name=API_STAGES["http"],
            auto_deploy=True,
            stage_variables=stage_variables(targets),
            default_route_settings=apigw.CfnStage.RouteSettingsProperty(
                throttling_rate_limit=self._settings.throttle_rps,
                throttling_burst_limit=self._settings.throttle_burst,
                detailed_metrics_enabled=True,
            ),
            access_log_settings=apigw.CfnStage.AccessLogSettingsProperty(
                destination_arn=access_logs(self, name, self._settings).log_group_arn,
                format=json.dumps(LOG_FORMAT),
            ),
        )
