"""The monthly limit: warnings on the way, and at the limit an action that stops what costs GPU money.

The action denies InvokeEndpoint to the functions and CreateTrainingJob to the state machines. The router then
answers on CPU, marked degraded, and the control loop lets the idle GPU go. Nothing is deleted.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_iam as iam
from constructs import Construct

WARNINGS = ((50, "ACTUAL"), (80, "ACTUAL"), (100, "FORECASTED"))


class SpendLimit(Construct):
    """A budget over everything tagged with the stage (activate the tag `turnout:stage` in Billing once)."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        stage: str,
        monthly_limit_usd: float,
        topic_arn: str,
        restrained: list[str],
    ) -> None:
        super().__init__(scope, construct_id)
        subscriber = budgets.CfnBudget.SubscriberProperty(address=topic_arn, subscription_type="SNS")
        self.budget = budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=name,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=monthly_limit_usd, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:turnout:stage${stage}"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for percent, kind in WARNINGS
            ],
        )
        self._restrain(name, topic_arn, restrained)

    def _restrain(self, name: str, topic_arn: str, roles: list[str]) -> None:
        deny = iam.ManagedPolicy(
            self,
            "StopGpuSpend",
            managed_policy_name=f"{name}-stop-gpu-spend",
            description="attached by the budget at its limit: no GPU calls, no training",
            statements=[
                iam.PolicyStatement(
                    sid="StopGpuSpend",
                    effect=iam.Effect.DENY,
                    actions=["sagemaker:InvokeEndpoint", "sagemaker:CreateTrainingJob"],
                    resources=["*"],
                )
            ],
        )
        stack = cdk.Stack.of(self)
        executor = iam.Role(self, "Executor", assumed_by=iam.ServicePrincipal("budgets.amazonaws.com"))
        executor.add_to_policy(
            iam.PolicyStatement(
                sid="AttachLimit",
                actions=["iam:AttachRolePolicy", "iam:DetachRolePolicy"],
                resources=[
                    stack.format_arn(service="iam", region="", resource="role", resource_name=role)
                    for role in roles
                ],
                conditions={"ArnEquals": {"iam:PolicyARN": deny.managed_policy_arn}},
            )
        )
        action = budgets.CfnBudgetsAction(
            self,
            "Action",
            budget_name=name,
            action_type="APPLY_IAM_POLICY",
            approval_model="AUTOMATIC",
            notification_type="ACTUAL",
            action_threshold=budgets.CfnBudgetsAction.ActionThresholdProperty(value=100, type="PERCENTAGE"),
            execution_role_arn=executor.role_arn,
            definition=budgets.CfnBudgetsAction.DefinitionProperty(
                iam_action_definition=budgets.CfnBudgetsAction.IamActionDefinitionProperty(
                    policy_arn=deny.managed_policy_arn, roles=roles
                )
            ),
            subscribers=[budgets.CfnBudgetsAction.SubscriberProperty(address=topic_arn, type="SNS")],
        )
        action.add_resource_dependency(self.budget)
