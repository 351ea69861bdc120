"""What answers for one model: its function, its front where the topology has one, their rollout."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.constructs.function import TurnoutFunction
from infra.constructs.grants import function_grants
from infra.deployment import Deployment
from infra.environment import function_environment, memory_mb, memory_notice

API_TIMEOUT_S = 30
ROLLOUTS = {
    "10percent_5minutes": codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
    "10percent_10minutes": codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_10_MINUTES,
    "linear_10percent_1minute": codedeploy.LambdaDeploymentConfig.LINEAR_10_PERCENT_EVERY_1_MINUTE,
    "all_at_once": codedeploy.LambdaDeploymentConfig.ALL_AT_ONCE,
}


class ModelService(Construct):
    """The functions of one model; `targets` are the aliases the API may route to, the first by default."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        model: str,
        application: codedeploy.LambdaApplication,
    ) -> None:
        super().__init__(scope, construct_id)
        self._deployment, self._model, self._application = deployment, model, application
        settings, names = deployment.models[model], deployment.names
        cdk.Tags.of(self).add("turnout:model", model)
        notice = memory_notice(model, settings)
        if notice:
            cdk.Annotations.of(self).add_warning_v2("turnout:memory", notice)
        role = "model" if settings.topology == "split" else "colocated"
        self.function = self._make("Model", names.function(model), role, memory_mb(model, settings))
        self.alarms = [self._roll_out("Model", self.function, names.function(model))]
        self.targets: list[lambda_.Alias] = [self.function.alias]
        if settings.topology != "colocated":
            front = self._make("Front", names.front(model), "front", settings.front_memory_mb)
            self.alarms.append(self._roll_out("Front", front, names.front(model)))
            # Under auto the route starts at the model's own function: no instance is ready before the first.
            self.targets = (
                [front.alias] if settings.topology == "split" else [self.function.alias, front.alias]
            )

    def _make(self, construct_id: str, name: str, role: str, memory: int) -> TurnoutFunction:
        deployment, stack = self._deployment, cdk.Stack.of(self)
        bucket = deployment.names.bucket(stack.account)
        asynchronous = deployment.models[self._model].has_shadows and role != "model"
        return TurnoutFunction(
            self,
            construct_id,
            deployment=deployment,
            name=name,
            handler="handlers.predict.handler",
            environment=function_environment(deployment, self._model, role, bucket),
            memory_mb=memory,
            timeout_s=API_TIMEOUT_S,
            grants=function_grants(stack, deployment, self._model, role),
            reserved_concurrency=deployment.models[self._model].reserved_concurrency,
            snapstart=deployment.settings.snapstart,
            dead_letters=dead_letters(self, f"{construct_id}Missed") if asynchronous else None,
        )

    def _roll_out(self, construct_id: str, function: TurnoutFunction, name: str) -> cloudwatch.Alarm:
        """A canary that an alarm on the alias's errors takes back."""
        alarm = function.alias.metric_errors(period=cdk.Duration.minutes(1), statistic="Sum").create_alarm(
            self,
            f"{construct_id}Errors",
            alarm_name=f"{name}-errors",
            alarm_description=f"{name} fails: rolls a deployment back",
            threshold=3,
            evaluation_periods=2,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        stack = cdk.Stack.of(self)
        topic_arn = stack.format_arn(service="sns", resource=self._deployment.names.alarms)
        topic = sns.Topic.from_topic_arn(self, f"{construct_id}Topic", topic_arn)
        alarm.add_alarm_action(actions.SnsAction(topic))
        group = codedeploy.LambdaDeploymentGroup(
            self,
            f"{construct_id}Rollout",
            application=self._application,
            alias=function.alias,
            deployment_group_name=name,
            deployment_config=ROLLOUTS[self._deployment.settings.canary],
            alarms=[alarm],
            auto_rollback=codedeploy.AutoRollbackConfig(
                deployment_in_alarm=True, failed_deployment=True, stopped_deployment=True
            ),
        )
        group.role.add_to_principal_policy(
            iam.PolicyStatement(sid="TellRollbacks", actions=["sns:Publish"], resources=[topic_arn])
        )
        resource = group.node.default_child
        if isinstance(resource, codedeploy.CfnDeploymentGroup):
            resource.trigger_configurations = [
                codedeploy.CfnDeploymentGroup.TriggerConfigProperty(
                    trigger_name="rollbacks",
                    trigger_events=["DeploymentFailure", "DeploymentRollback"],
                    trigger_target_arn=topic_arn,
                )
            ]
        return alarm


def dead_letters(scope: Construct, construct_id: str) -> sqs.Queue:
    """Where an asynchronous call goes that failed: kept for four days to be looked at."""
    return sqs.Queue(
        scope,
        construct_id,
        enforce_ssl=True,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        retention_period=cdk.Duration.days(4),
    )
