"""Alarms and dashboards watch what is really written, as the lines of telemetry and control loop say."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Look, Templates

pytestmark = pytest.mark.slow
Written = tuple[str, frozenset[str]]


def watched(templates: Templates) -> Iterator[Written]:
    """Name and dimension names of every metric of turnout's own in alarms and dashboards."""
    stack = templates["turnout-prod-observability"]["Resources"].values()
    for resource in stack:
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            for query in resource["Properties"].get("Metrics", [resource["Properties"]]):
                metric = query.get("MetricStat", {}).get("Metric", query)
                if metric.get("Namespace") == "turnout":
                    yield metric["MetricName"], frozenset(d["Name"] for d in metric["Dimensions"])
        if resource["Type"] == "AWS::CloudWatch::Dashboard":
            body = resource["Properties"]["DashboardBody"]
            text = body if isinstance(body, str) else "".join(map(str, body["Fn::Join"][1]))
            for match in re.findall(r'\["turnout",("[^\[\]{}]+")', text):
                name, *rest = json.loads(f"[{match}]")
                yield name, frozenset(rest[::2])


def directives(lines: str) -> set[Written]:
    """What CloudWatch makes of lines in the embedded metric format."""
    found: set[Written] = set()
    for line in lines.splitlines():
        for directive in json.loads(line)["_aws"]["CloudWatchMetrics"] if line.startswith("{") else ():
            assert directive["Namespace"] == "turnout"
            for dimensions in directive["Dimensions"]:
                found |= {(metric["Name"], frozenset(dimensions)) for metric in directive["Metrics"]}
    return found


def of_functions() -> set[Written]:
    """A request's line may hold all of UNITS; a shadow's is written by `Telemetry.shadowed`."""
    from handlers.adapters.telemetry import DIMENSIONS, UNITS

    return {(name, frozenset(DIMENSIONS)) for name in UNITS}


def of_shadows(capsys: pytest.CaptureFixture[str]) -> set[Written]:
    from handlers.adapters.telemetry import Telemetry
    from handlers.serving.shadow import Comparison
    from handlers.settings import Settings

    names = ("MODEL", "BUCKET", "POINTER")
    given = {f"TURNOUT_{name}": "digits" for name in names}
    given |= {"TURNOUT_LATENCY_SLO_MS": "100", "TURNOUT_ECONOMICS": "{}"}
    Telemetry(Settings.from_env(given)).shadowed(Comparison(1, 1, 0.0), 1e-6)
    return directives(capsys.readouterr().out)


def of_control(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> set[Written]:
    from types import SimpleNamespace as Made

    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "turnout-control")
    from handlers.control import _measure

    counts = defaultdict(lambda: 1.0)
    state = Made(capacity=Made(optimum_usd=1.0), spent_usd=1.0)
    stand_ins: Any = (Made(model="digits"), Made(state=state), Made(counts=counts), None)
    _measure(*stand_ins)
    out = capsys.readouterr().out
    assert '"service":"turnout-control"' in out
    return directives(out)


def test_every_metric_that_is_watched_is_written(
    look: Look, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    seen = set(watched(look("prod").templates))
    assert len(seen) > 12
    capsys.readouterr()
    written = of_functions() | of_shadows(capsys) | of_control(capsys, monkeypatch)
    assert seen - written == set()


def test_drift_spend_burn_and_rollback_ring_at_the_topic(look: Look):
    made = look("prod").templates
    alarms = {
        r["Properties"].get("AlarmName"): r["Properties"]
        for t in made.values()
        for r in t["Resources"].values()
        if r["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    }
    for name in (
        "turnout-prod-spend",
        "turnout-prod-sst2-drift",
        "turnout-prod-digits-drift",
        "turnout-prod-sst2-burn-fast",
        "turnout-prod-sst2-burn-slow",
        "turnout-prod-sst2-errors",
        "turnout-prod-sst2-gpu-errors",
        "turnout-prod-control-errors",
    ):
        assert "turnout-prod-alarms" in json.dumps(alarms[name]["AlarmActions"]), name
    # Where shadows are on, drift is what they find; else what the router doubts
    drift = alarms["turnout-prod-sst2-drift"]
    assert drift["Metrics"][0]["MetricStat"]["Metric"]["MetricName"] == "ShadowAgreement"
    assert (drift["Threshold"], drift["ComparisonOperator"]) == (0.95, "LessThanThreshold")
    assert "ANOMALY_DETECTION_BAND" in json.dumps(alarms["turnout-prod-digits-drift"])
    # 6 hours at twice the pace of 500 USD in 730 hours
    assert alarms["turnout-prod-spend"]["Threshold"] == pytest.approx(2 * 500 * 6 / 730)
    # And a rollback of CodeDeploy's is told by itself
    groups = [
        r["Properties"]
        for r in made["turnout-prod-api"]["Resources"].values()
        if r["Type"] == "AWS::CodeDeploy::DeploymentGroup"
    ]
    assert all("DeploymentRollback" in g["TriggerConfigurations"][0]["TriggerEvents"] for g in groups)


@pytest.mark.parametrize(
    ("dashboard", "asked"),
    [
        (
            "business",
            ("USD per 1000 requests, cpu", "USD per 1000 requests, gpu", "attainment", "accuracy drift",
             "USD an hour, against 500 USD a month", "the limit's pace", "Regret"),
        ),
        (
            "operations",
            ("latency p50 and p99", "errors, throttles, cold starts", "GPU instances", "no capacity",
             "breaker open"),
        ),
    ],
)  # fmt: skip
def test_each_dashboard_answers_what_is_asked_of_it(look: Look, dashboard: str, asked: tuple[str, ...]):
    (text,) = (
        json.dumps(resource["Properties"]["DashboardBody"])
        for resource in look("prod").templates["turnout-prod-observability"]["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Dashboard"
        and resource["Properties"]["DashboardName"] == f"turnout-prod-{dashboard}"
    )
    assert [words for words in asked if words not in text] == []
