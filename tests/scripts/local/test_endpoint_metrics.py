"""Given calls to an endpoint, when their minute is over, then CloudWatch has them once, as SageMaker does."""

from __future__ import annotations

from scripts.local.deployed import Variant
from scripts.local.endpoint_metrics import MAX_VALUES, Minute, Minutes, data

CLASSIC = Variant("e", "main", "", 1, "s3://b/m", {})
COMPONENT = Variant("e", "main", "c", 1, "s3://b/m", {})


def test_a_minute_is_taken_once_and_only_when_it_is_over() -> None:
    minutes = Minutes()
    minutes.at(60.0).invocations += 2
    minutes.at(119.9).invocations += 1
    assert minutes.take(119.9) == []
    assert minutes.take(120.0) == [(1, Minute(invocations=3))]
    assert minutes.take(120.0) == []


def test_names_dimensions_and_units_are_sagemakers() -> None:
    seen = Minute(invocations=3, no_capacity=1, model_us=[9_000.0, 8_000.0], concurrent=[1.0, 0.0])
    for variant, dimensions, concurrent in (
        (CLASSIC, {"EndpointName": "e", "VariantName": "main"}, "ConcurrentRequestsPerModel"),
        (COMPONENT, {"InferenceComponentName": "c"}, "ConcurrentRequestsPerCopy"),
    ):
        found = {one["MetricName"]: one for one in data(variant, 2, seen)}
        assert set(found) == {"Invocations", "NoCapacityInvocationFailures", "ModelLatency", concurrent}
        assert found["ModelLatency"]["Unit"] == "Microseconds"
        assert found["ModelLatency"]["Values"] == [9_000.0, 8_000.0]
        assert found["Invocations"]["Timestamp"].timestamp() == 120.0
        for one in found.values():
            assert {each["Name"]: each["Value"] for each in one["Dimensions"]} == dimensions


def test_many_values_are_cut_to_what_cloudwatch_takes() -> None:
    parts = [
        one["Values"] for one in data(CLASSIC, 0, Minute(model_us=[1.0] * 400)) if one["Unit"] != "Count"
    ]
    assert [len(part) for part in parts] == [MAX_VALUES, MAX_VALUES, 100]
