"""The same routes behind a REST API, by choice: WAF, API keys and private endpoints for 3.5 times the price.

It sends payload format 1.0, which `handlers.protocol.http` answers too. All bodies travel as binary, so that
tensors pass unharmed.
"""

from __future__ import annotations

import hashlib
import json

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigw
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Domain, Stage
from infra.constructs.api_parts import Targets, access_logs, invocation_uri, permit, stage_variables
from infra.constructs.function import RETENTION
from infra.names import API_STAGES

INTEGRATION_TIMEOUT_MS = 29_000
LOG_FORMAT = {
    "requestId": "$context.requestId",
    "ip": "$context.identity.sourceIp",
    "time": "$context.requestTime",
    "route": "$context.httpMethod $context.resourcePath",
    "status": "$context.status",
    "latencyMs": "$context.responseLatency",
    "integrationMs": "$context.integrationLatency",
    "responseBytes": "$context.responseLength",
    "error": "$context.error.message",
}


class RestApi(Construct):
    """As HttpApi; one stage, whose variables move the routes of models with several targets."""

    def __init__(
        self, scope: Construct, construct_id: str, *, name: str, settings: Stage, targets: Targets
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings = settings
        self.api = apigw.CfnRestApi(
            self,
            "Api",
            name=name,
            description="turnout: Open Inference Protocol v2",
            binary_media_types=["*/*"],
            endpoint_configuration=apigw.CfnRestApi.EndpointConfigurationProperty(types=["REGIONAL"]),
        )
        self.api_id = self.api.ref
        self._resources = {"": self.api.attr_root_resource_id}
        self._methods: list[apigw.CfnMethod] = []
        self._shape: list[str] = []
        uris = {model: invocation_uri(self, model, aliases) for model, aliases in targets.items()}
        permit(self, self.api_id, targets)
        for model, uri in uris.items():
            for path in (f"/v2/models/{model}", f"/v2/models/{model}/{{proxy+}}"):
                self._method("ANY", path, uri, moves=len(targets[model]) > 1)
        first = next(iter(uris))
        for verb, path in (("GET", "/v2"), ("GET", "/v2/health/{proxy+}"), ("ANY", "/v2/models/{proxy+}")):
            self._method(verb, path, uris[first], moves=len(targets[first]) > 1)
        self.stage = self._stage(name, targets)
        if settings.domain:
            self._name(settings.domain)
        host = f"{self.api_id}.execute-api.{cdk.Stack.of(self).region}.{cdk.Aws.URL_SUFFIX}"
        self.url = f"https://{host}/{API_STAGES['rest']}"

    def _resource(self, path: str) -> str:
        """The id of the resource at `path`, made with those above it where they are not there yet."""
        if path not in self._resources:
            above, _, part = path.rpartition("/")
            self._resources[path] = apigw.CfnResource(
                self,
                f"Path {path.replace('/', '_')}",
                rest_api_id=self.api_id,
                parent_id=self._resource(above),
                path_part=part,
            ).ref
        return self._resources[path]

    def _method(self, verb: str, path: str, uri: str, *, moves: bool) -> None:
        authorization = "AWS_IAM" if self._settings.auth == "iam" else "NONE"
        method = apigw.CfnMethod(
            self,
            f"Method {verb} {path.replace('/', '_')}",
            rest_api_id=self.api_id,
            resource_id=self._resource(path),
            http_method=verb,
            authorization_type=authorization,
            integration=apigw.CfnMethod.IntegrationProperty(
                type="AWS_PROXY",
                integration_http_method="POST",
                uri=uri,
                timeout_in_millis=INTEGRATION_TIMEOUT_MS,
            ),
        )
        self._methods.append(method)
        self._shape.append(f"{verb} {path} {authorization} {moves}")

    def _deployment(self) -> apigw.CfnDeployment:
        """A snapshot of the methods; API Gateway serves it until another replaces it, so its id is theirs."""
        shape = hashlib.sha256("\n".join(self._shape).encode()).hexdigest()[:8]
        deployment = apigw.CfnDeployment(self, f"Deployment{shape}", rest_api_id=self.api_id)
        for method in self._methods:
            deployment.add_resource_dependency(method)
        return deployment

    def _stage(self, name: str, targets: Targets) -> apigw.CfnStage:
        errors = logs.LogGroup(
            self,
            "ExecutionLogs",  # API Gateway fills a group of this name; made here it ends some day
            log_group_name=f"API-Gateway-Execution-Logs_{self.api_id}/{API_STAGES['rest']}",
            retention=logs.RetentionDays[RETENTION[self._settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        stage = apigw.CfnStage(
            self,
            "Stage",
            rest_api_id=self.api_id,
            deployment_id=self._deployment().ref,
            stage_name=API_STAGES["rest"],
            tracing_enabled=True,
            variables=stage_variables(targets),
            method_settings=[
                apigw.CfnStage.MethodSettingProperty(
                    http_method="*",
                    resource_path="/*",
                    throttling_rate_limit=self._settings.throttle_rps,
                    throttling_burst_limit=self._settings.throttle_burst,
                    metrics_enabled=True,
                    logging_level="ERROR",
                    data_trace_enabled=False,
                )
            ],
            access_log_setting=apigw.CfnStage.AccessLogSettingProperty(
                destination_arn=access_logs(self, name, self._settings).log_group_arn,
                format=json.dumps(LOG_FORMAT),
            ),
        )
        stage.add_resource_dependency(self._may_log())
        stage.node.add_dependency(errors)
        return stage

    def _may_log(self) -> apigw.CfnAccount:
        """A REST API logs as a role of the whole account's; kept, since other APIs may use it by then."""
        role = iam.Role(
            self,
            "LogRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
                )
            ],
        )
        account = apigw.CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        for kept in (role, account):
            kept.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        return account

    def _name(self, domain: Domain) -> None:
        """The API under its own name; point a DNS alias at the output of the stack."""
        named = apigw.CfnDomainName(
            self,
            "Domain",
            domain_name=domain.name,
            regional_certificate_arn=domain.certificate_arn,
            endpoint_configuration=apigw.CfnDomainName.EndpointConfigurationProperty(types=["REGIONAL"]),
            security_policy="TLS_1_2",
        )
        apigw.CfnBasePathMapping(
            self, "Mapping", domain_name=named.ref, rest_api_id=self.api_id, stage=self.stage.ref
        )
        cdk.CfnOutput(self, "DnsAlias", value=named.attr_regional_domain_name)
