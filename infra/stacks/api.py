"""The API and the functions behind it: stateless, replaced at every deployment."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.constructs.http_api import HttpApi
from infra.constructs.model_service import ModelService
from infra.constructs.rest_api import RestApi
from infra.deployment import Deployment


class ApiStack(cdk.Stack):
    """One API, HTTP or REST, in front of one service a model."""

    def __init__(self, scope: Construct, name: str, *, deployment: Deployment, env: cdk.Environment) -> None:
        super().__init__(scope, name, env=env, description="turnout: the API and the models' functions")
        application = codedeploy.LambdaApplication(self, "Rollouts", application_name=deployment.names.prefix)
        self.services = {
            model: ModelService(self, model, deployment=deployment, model=model, application=application)
            for model in deployment.models
        }
        flavour = RestApi if deployment.settings.api == "rest" else HttpApi
        api = flavour(
            self,
            "Http",
            name=deployment.names.prefix,
            settings=deployment.settings,
            targets={model: service.targets for model, service in self.services.items()},
        )
        for construct_id, parameter, value, what in (
            ("ApiId", deployment.names.api_id, api.api_id, "the id of the API"),
            ("ApiUrl", deployment.names.api_url, api.url, "where the API answers"),
        ):
            ssm.StringParameter(
                self, construct_id, parameter_name=parameter, string_value=value, description=what
            )
        first = next(iter(deployment.models))
        cdk.CfnOutput(self, "Url", value=api.url)
        cdk.CfnOutput(self, "Next", value=f"turnout invoke {first} --sample 3 --stage {deployment.stage}")
