"""The CloudFormation types that moto cannot deploy although its back ends hold them.

Each pair of functions hands a template's properties to moto's own back end, so what a stack makes answers
boto3 calls like anything else in moto. `teach_all` must run before moto's CloudFormation is first used.
"""

from __future__ import annotations

from typing import Any

from moto.awslambda.models import lambda_backends
from moto.cloudwatch.models import Dimension, Metric, MetricDataQuery, MetricStat, cloudwatch_backends
from moto.codebuild.models import codebuild_backends
from moto.sagemaker.models import sagemaker_backends
from moto.scheduler.models import scheduler_backends

from scripts.local.moto_api_gateway import lower_first, teach_api_gateway
from scripts.local.moto_resource import Made, Wanted, teach
from scripts.local.moto_rest_api import teach_rest_api
from scripts.local.moto_scaling import teach_scaling


def teach_all() -> None:
    """Registers every type below with moto's CloudFormation."""
    teach("AWS::Lambda::Alias", create=make_alias, update=change_alias, delete=drop_alias)
    teach_api_gateway()
    teach_rest_api()
    teach(
        "AWS::CloudWatch::Alarm", name="AlarmName", create=make_alarm, update=change_alarm, delete=drop_alarm
    )
    teach(
        "AWS::CloudWatch::CompositeAlarm",
        name="AlarmName",
        create=make_composite,
        update=change_composite,
        delete=drop_alarm,
    )
    teach_scaling()
    teach(
        "AWS::Scheduler::Schedule",
        name="Name",
        create=make_schedule,
        update=change_schedule,
        delete=drop_schedule,
    )
    teach("AWS::Scheduler::ScheduleGroup", name="Name", create=make_group, update=keep, delete=drop_group)
    teach(
        "AWS::CodeBuild::Project",
        name="Name",
        create=make_project,
        update=change_project,
        delete=drop_project,
    )
    teach(
        "AWS::SageMaker::ModelPackageGroup",
        name="ModelPackageGroupName",
        create=make_package_group,
        update=keep,
        delete=drop_package_group,
    )


def keep(made: Made, _wanted: Wanted) -> Made:
    """An update of a type whose changeable properties nothing here reads."""
    return made


# Lambda


def make_alias(wanted: Wanted) -> Made:
    p = wanted.properties
    alias = lambda_backends[wanted.account_id][wanted.region].create_alias(
        p["Name"],
        p["FunctionName"],
        p["FunctionVersion"],
        p.get("Description", ""),
        p.get("RoutingConfig", ""),
    )
    return Made(alias.arn, {"AliasArn": alias.arn})


def change_alias(made: Made, wanted: Wanted) -> Made:
    p = wanted.properties
    lambda_backends[wanted.account_id][wanted.region].update_alias(
        p["Name"],
        p["FunctionName"],
        p["FunctionVersion"],
        p.get("Description", ""),
        p.get("RoutingConfig", ""),
    )
    return made


def drop_alias(_made: Made, wanted: Wanted) -> None:
    p = wanted.properties
    lambda_backends[wanted.account_id][wanted.region].delete_alias(p["Name"], p["FunctionName"])


# CloudWatch


def alarm_arguments(wanted: Wanted) -> dict[str, Any]:
    p = wanted.properties
    queries = [
        MetricDataQuery(
            query_id=query["Id"],
            label=query.get("Label", ""),
            period=query.get("Period", ""),
            return_data=query.get("ReturnData", True),
            expression=query.get("Expression"),
            metric_stat=metric_stat(query["MetricStat"]) if "MetricStat" in query else None,
        )
        for query in p.get("Metrics", [])
    ]
    return {
        "name": wanted.name,
        "namespace": p.get("Namespace"),
        "metric_name": p.get("MetricName"),
        "comparison_operator": p["ComparisonOperator"],
        "evaluation_periods": int(p["EvaluationPeriods"]),
        "datapoints_to_alarm": p.get("DatapointsToAlarm"),
        "period": int(p["Period"]) if "Period" in p else None,
        "threshold": float(p["Threshold"]) if "Threshold" in p else None,
        "statistic": p.get("Statistic"),
        "extended_statistic": p.get("ExtendedStatistic"),
        "description": p.get("AlarmDescription", ""),
        "dimensions": p.get("Dimensions", []),
        "alarm_actions": p.get("AlarmActions", []),
        "ok_actions": p.get("OKActions", []),
        "insufficient_data_actions": p.get("InsufficientDataActions", []),
        "unit": p.get("Unit"),
        "treat_missing_data": p.get("TreatMissingData"),
        "metric_data_queries": queries or None,
    }


def metric_stat(stat: dict[str, Any]) -> MetricStat:
    metric = stat["Metric"]
    dimensions = [Dimension(d["Name"], d["Value"]) for d in metric.get("Dimensions", [])]
    return MetricStat(
        Metric(metric["MetricName"], metric["Namespace"], dimensions),
        str(stat["Period"]),
        stat["Stat"],
        stat.get("Unit", ""),
    )


def make_alarm(wanted: Wanted) -> Made:
    alarm = cloudwatch_backends[wanted.account_id][wanted.region].put_metric_alarm(**alarm_arguments(wanted))
    return Made(alarm.name, {"Arn": alarm.alarm_arn})


def change_alarm(_made: Made, wanted: Wanted) -> Made:
    return make_alarm(wanted)  # the back end replaces an alarm of the same name


def make_composite(wanted: Wanted) -> Made:
    p = wanted.properties
    alarm = cloudwatch_backends[wanted.account_id][wanted.region].put_metric_alarm(
        name=wanted.name,
        namespace="",
        metric_name="",
        comparison_operator="",
        evaluation_periods=1,
        period=60,
        threshold=0.0,
        statistic="",
        description=p.get("AlarmDescription", ""),
        dimensions=[],
        alarm_actions=p.get("AlarmActions", []),
        rule=p["AlarmRule"],
    )
    return Made(alarm.name, {"Arn": alarm.alarm_arn})


def change_composite(_made: Made, wanted: Wanted) -> Made:
    return make_composite(wanted)


def drop_alarm(made: Made, wanted: Wanted) -> None:
    cloudwatch_backends[wanted.account_id][wanted.region].delete_alarms([made.ref])


# EventBridge Scheduler


def schedule_arguments(wanted: Wanted) -> dict[str, Any]:
    p = wanted.properties
    return {
        "name": wanted.name,
        "group_name": p.get("GroupName", "default"),
        "description": p.get("Description", ""),
        "schedule_expression": p["ScheduleExpression"],
        "schedule_expression_timezone": p.get("ScheduleExpressionTimezone", "UTC"),
        "flexible_time_window": p["FlexibleTimeWindow"],
        "target": p["Target"],
        "state": p.get("State", "ENABLED"),
        "start_date": p.get("StartDate"),
        "end_date": p.get("EndDate"),
        "kms_key_arn": p.get("KmsKeyArn"),
    }


def make_schedule(wanted: Wanted) -> Made:
    schedule = scheduler_backends[wanted.account_id][wanted.region].create_schedule(
        **schedule_arguments(wanted), action_after_completion=None
    )
    return Made(schedule.name, {"Arn": schedule.arn})


def change_schedule(made: Made, wanted: Wanted) -> Made:
    scheduler_backends[wanted.account_id][wanted.region].update_schedule(**schedule_arguments(wanted))
    return made


def drop_schedule(made: Made, wanted: Wanted) -> None:
    scheduler_backends[wanted.account_id][wanted.region].delete_schedule(
        wanted.properties.get("GroupName", "default"), made.ref
    )


def make_group(wanted: Wanted) -> Made:
    group = scheduler_backends[wanted.account_id][wanted.region].create_schedule_group(
        wanted.name, wanted.properties.get("Tags", [])
    )
    return Made(group.name, {"Arn": group.arn})


def drop_group(made: Made, wanted: Wanted) -> None:
    scheduler_backends[wanted.account_id][wanted.region].delete_schedule_group(made.ref)


# SageMaker


def make_package_group(wanted: Wanted) -> Made:
    arn = sagemaker_backends[wanted.account_id][wanted.region].create_model_package_group(
        wanted.name,
        wanted.properties.get("ModelPackageGroupDescription", ""),
        wanted.properties.get("Tags", []),
    )
    return Made(wanted.name, {"ModelPackageGroupArn": arn})


def drop_package_group(made: Made, wanted: Wanted) -> None:
    """moto's back end has no call for it."""
    del sagemaker_backends[wanted.account_id][wanted.region].model_package_groups[made.ref]


# CodeBuild


def make_project(wanted: Wanted) -> Made:
    p = wanted.properties
    project = codebuild_backends[wanted.account_id][wanted.region].create_project(
        project_name=wanted.name,
        description=p.get("Description"),
        project_source=lower_first(p["Source"]),
        artifacts=lower_first(p["Artifacts"]),
        environment=lower_first(p["Environment"]),
        service_role=p["ServiceRole"],
        tags=p.get("Tags"),
        cache=p.get("Cache"),
        timeout=p.get("TimeoutInMinutes"),
        queued_timeout=p.get("QueuedTimeoutInMinutes"),
        source_version=p.get("SourceVersion"),
        logs_config=p.get("LogsConfig"),
        vpc_config=None,
    )
    return Made(wanted.name, {"Arn": project["arn"]})


def change_project(_made: Made, wanted: Wanted) -> Made:
    return make_project(wanted)  # the back end replaces a project of the same name


def drop_project(made: Made, wanted: Wanted) -> None:
    codebuild_backends[wanted.account_id][wanted.region].delete_project(made.ref)
