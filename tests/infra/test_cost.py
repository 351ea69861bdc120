from __future__ import annotations

import pytest

from handlers.errors import InvalidConfig
from infra.cost import Serving, break_even_rps, fixed, per_request, scenarios
from infra.prices.table import load_prices

PRICES = load_prices()


def serving(**named: object) -> Serving:
    base = {
        "memory_mb": 1024,
        "waiting_mb": 256,
        "cpu_ms": 100.0,
        "gpu_ms": 20.0,
        "instance_type": "ml.g4dn.xlarge",
    }
    return Serving(model="m", architecture="arm64", api="http", **{**base, **named})  # type: ignore[arg-type]


def test_a_request_costs_what_the_table_says():
    lines = {line.component: line.usd for line in per_request(serving(), PRICES)["cpu"]}
    assert lines["function: duration"] == pytest.approx(0.1 * 0.0000133334)
    assert lines["front door"] == pytest.approx(1e-6)
    assert all(line.as_of and line.confidence for line in per_request(serving(), PRICES)["gpu"])


def test_break_even_is_where_the_saving_pays_the_instance():
    wanted = serving(gpu_ms=0.0, payload_bytes=0.0)
    rate = break_even_rps(wanted, PRICES)
    assert rate is not None
    assert rate * 3600 * 0.1 * 0.0000133334 == pytest.approx(0.7364)


def test_no_break_even_where_waiting_costs_more_or_there_is_no_gpu():
    assert break_even_rps(serving(cpu_ms=1.0, waiting_mb=1024), PRICES) is None
    assert break_even_rps(serving(instance_type=None), PRICES) is None
    assert scenarios(serving(instance_type=None), PRICES) == []


def test_scenarios_scale_with_hours():
    always, business, waking = scenarios(serving(), PRICES)
    assert always.usd == pytest.approx(730 * 0.7364)
    assert business.usd == pytest.approx(220 * 0.7364)
    assert waking.usd == pytest.approx(240 / 3600 * 0.7364)


def test_fixed_costs_are_counted_from_the_templates():
    metric = {"MetricStat": {}}
    alarm = {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {"Metrics": [metric, metric, {"Expression": "a+b"}]},
    }
    template = {
        "Resources": {
            "A": alarm,
            "B": {"Type": "AWS::CloudWatch::Alarm", "Properties": {}},
            "D": {"Type": "AWS::CloudWatch::Dashboard", "Properties": {}},
        }
    }
    lines = {line.component: line for line in fixed([template], PRICES, models=1, gpu_models=0)}
    assert lines["alarms (metrics watched)"].quantity == 3
    assert lines["dashboards"].usd == 3.0
    assert "control loop: metrics read" not in lines


def test_unknown_names_list_the_known():
    with pytest.raises(InvalidConfig, match=r"one of .*ml\.g5\.xlarge"):
        PRICES.instance("ml.g99.xlarge")
    with pytest.raises(InvalidConfig, match=r"one of us-east-1"):
        load_prices("mars-north-1")
    with pytest.raises(InvalidConfig, match=r"lambda\.request"):
        PRICES.usd("lambda.requests")
