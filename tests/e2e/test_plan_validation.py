"""The planner against the laptop cloud: the same short trace, driven at real speed and predicted.

Every other request demands the GPU. Tolerances: path shares within 0.1, attainment within 0.03, USD per
request within 25 %; of each path p50 within 15 ms and p95 within 60 ms. The laptop has a handler, and a
machine shared with other work; the simulator neither.
"""

from __future__ import annotations

import pytest

from scripts.local.client import ask, sample
from scripts.simulate.released import from_release
from scripts.simulate.synthetic import generate
from scripts.simulate.validation import drive, fixed_design, predict
from tests.e2e.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_simulator_predicts_what_the_laptop_cloud_does(running: Project) -> None:
    """Given one trace, when it is driven and when it is replayed, then shares, latency and cost agree."""
    store = running.root / "releases"
    samples = [sample(store, "digits", index) for index in range(10)]
    url = f"{running.url}/v2/models/digits/infer"

    def gpu_answers() -> bool:
        body = {"inputs": samples[0]["inputs"], "parameters": {"path": "gpu"}}
        return bool(ask(url, body).body["parameters"]["path"] == "gpu")

    running.wait_for(gpu_answers, 120)
    trace = generate("poisson", 6.0, 30.0, 5)
    scenario = from_release("digits", "local", store)
    measured = drive(url, trace, samples)
    predicted = predict(scenario, trace, fixed_design("turnout", 1), 5)
    told = f"measured {measured}\npredicted {predicted}"
    print(told)
    assert measured.requests == predicted.requests == trace.requests
    assert measured.gpu_share == pytest.approx(predicted.gpu_share, abs=0.1), told
    assert measured.attainment == pytest.approx(predicted.attainment, abs=0.03), told
    assert measured.usd_per_request == pytest.approx(predicted.usd_per_request, rel=0.25), told
    assert measured.latency_ms.keys() == predicted.latency_ms.keys() == {"cpu", "gpu"}, told
    for path, found in measured.latency_ms.items():
        assert found[50] == pytest.approx(predicted.latency_ms[path][50], abs=15.0), told
        assert found[95] == pytest.approx(predicted.latency_ms[path][95], abs=60.0), told
