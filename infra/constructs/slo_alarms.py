"""Alarms on the objective: burn rate over two windows (Google SRE Workbook, chapter 5), and on drift."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra import metrics
from infra.config import Model

HOUR = cdk.Duration.hours(1)
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
        wanted: Model,
        topic: sns.ITopic,
    ) -> None:
        super().__init__(scope, construct_id)
        for burn in BURNS:
            self._burn(prefix, model, wanted.attainment, burn, topic)
        if wanted.has_shadows:
            drift: cloudwatch.AlarmBase = self._disagreement(prefix, model, wanted.min_agreement)
        else:
            drift = self._doubt(prefix, model)
        drift.add_alarm_action(actions.SnsAction(topic))

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

    def _disagreement(self, prefix: str, model: str, least: float) -> cloudwatch.Alarm:
        """Two hours in which the GPU confirms fewer of the CPU's answers than `least`."""
        return metrics.agreement(model, HOUR).create_alarm(
            self,
            "drift",
            alarm_name=f"{prefix}-{model}-drift",
            alarm_description=f"fewer than {least:.1%} of {model}'s CPU answers agree with the GPU's",
            threshold=least,
            evaluation_periods=2,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            treat_missing_data=NOT_BREACHING,
        )

    def _doubt(self, prefix: str, model: str) -> cloudwatch.AnomalyDetectionAlarm:
        """Without shadows: more answers below the threshold than CloudWatch has learnt to expect."""
        return cloudwatch.AnomalyDetectionAlarm(
            self,
            "drift",
            metric=metrics.doubted_share(model),
            alarm_name=f"{prefix}-{model}-drift",
            alarm_description=f"{model} doubts unusually many answers: its inputs may have drifted",
            std_devs=3,
            evaluation_periods=6,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_UPPER_THRESHOLD,
            treat_missing_data=NOT_BREACHING,
        )
