"""Alarms on the objective: burn rate over two windows (Google SRE Workbook, chapter 5), and drift."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra import metrics

NOT_BREACHING = cloudwatch.TreatMissingData.NOT_BREACHING


@dataclass(frozen=True, slots=True)
class Burn:
    """Alarm when `rate` times the error budget is burnt over the `long` and still over the `short` window.

    14.4 for an hour is 2 % of a 30-day budget, 6 for six hours is 5 %. Windows in minutes.
    """

    name: str
    rate: float
    long: int
    short: int


BURNS = (Burn("fast", 14.4, 60, 5), Burn("slow", 6.0, 360, 30))


class SloAlarms(Construct):
    """Two composite alarms on attainment and one on drift, for one model, all to `topic`."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        prefix: str,
        model: str,
        attainment: float,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        self.composites = [self._burn(prefix, model, attainment, burn, topic) for burn in BURNS]
        self.drift = self._drift(prefix, model)
        self.drift.add_alarm_action(actions.SnsAction(topic))

    def _burn(
        self, prefix: str, model: str, attainment: float, burn: Burn, topic: sns.ITopic
    ) -> cloudwatch.CompositeAlarm:
        windows = [
            metrics.burn_rate(model, attainment, cdk.Duration.minutes(minutes)).create_alarm(
                self,
                f"{burn.name}-{minutes}m",
                alarm_name=f"{prefix}-{model}-burn-{burn.name}-{minutes}m",
                alarm_description=f"part of {prefix}-{model}-burn-{burn.name}",
                threshold=burn.rate,
                evaluation_periods=1,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=NOT_BREACHING,
            )
            for minutes in (burn.long, burn.short)
        ]
        composite = cloudwatch.CompositeAlarm(
            self,
            f"{burn.name}-burn",
            composite_alarm_name=f"{prefix}-{model}-burn-{burn.name}",
            alarm_description=(
                f"{model} misses its objective {burn.rate:g} times as often as its attainment of "
                f"{attainment:g} allows, over {burn.long} and {burn.short} minutes"
            ),
            alarm_rule=cloudwatch.AlarmRule.all_of(*windows),
        )
        composite.add_alarm_action(actions.SnsAction(topic))
        return composite

    def _drift(self, prefix: str, model: str) -> cloudwatch.Alarm:
        """Escalations three standard deviations above what CloudWatch has learnt for the time of day."""
        return cloudwatch.AnomalyDetectionAlarm(
            self,
            "drift",
            metric=metrics.escalated_share(model),
            alarm_name=f"{prefix}-{model}-drift",
            alarm_description=f"{model} escalates unusually often: its inputs may have drifted",
            std_devs=3,
            evaluation_periods=6,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_UPPER_THRESHOLD,
            treat_missing_data=NOT_BREACHING,
        )
