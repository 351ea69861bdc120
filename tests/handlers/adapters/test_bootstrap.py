"""The function as a whole, on a release in S3: what it answers, and what it does when the release is bad."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.adapters.bootstrap import start
from handlers.adapters.wiring import Running

Event = Callable[..., dict[str, Any]]
BODY = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [9, 1, 0, 0]}]}


def infer(running: Running, event: Event, body: Any = BODY, **kwargs: Any) -> tuple[int, dict[str, Any]]:
    text = body if isinstance(body, str) else json.dumps(body)
    result = running.answer(event("POST", "/v2/models/tiny/infer", text, **kwargs), "id")
    return result["statusCode"], json.loads(result["body"])


def get(running: Running, event: Event, path: str) -> tuple[int, dict[str, Any]]:
    result = running.answer(event("GET", path), "id")
    return result["statusCode"], json.loads(result["body"])


def test_GIVEN_a_release_WHEN_asked_THEN_the_cpu_answers_with_its_reasons(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    release = cloud.publish(tiny_graph(1.0))
    running = start(environ, time.monotonic)

    status, answer = infer(running, event)

    assert status == 200
    by_name = {output["name"]: output["data"] for output in answer["outputs"]}
    assert by_name["label"] == ["red"]
    assert by_name["probabilities"] == pytest.approx([0.99953, 0.00034, 0.00012], abs=1e-4)
    assert answer["model_version"] == release
    assert answer["parameters"]["path"] == "cpu"
    assert answer["parameters"]["degraded"] is False
    assert answer["parameters"]["attempts"] == 1
    assert answer["parameters"]["cost_usd"] > 1.2e-6


def test_GIVEN_no_pointer_WHEN_started_THEN_not_ready_with_the_reason_and_live(
    cloud: Any, environ: dict[str, str], event: Event
) -> None:
    running = start(environ, time.monotonic)

    assert get(running, event, "/v2/health/live")[0] == 200
    for status, answer in (get(running, event, "/v2/health/ready"), infer(running, event)):
        assert status == 404
        assert "no release has been published" in answer["error"]


def test_GIVEN_a_changed_byte_WHEN_started_THEN_readiness_is_refused_with_the_reason(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    graph = tiny_graph(1.0)
    cloud.publish(graph, stored=graph[:-1] + bytes([graph[-1] ^ 1]))
    running = start(environ, time.monotonic)

    status, answer = get(running, event, "/v2/models/tiny/ready")

    assert status == 424
    assert "cpu/model.onnx: sha256 is" in answer["error"]


def test_GIVEN_a_good_release_WHEN_the_next_one_is_tampered_with_THEN_the_old_one_keeps_serving(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    old = cloud.publish(tiny_graph(1.0))
    running = start(environ, time.monotonic)
    newer = tiny_graph(2.0)
    cloud.publish(newer, stored=newer + b"!")

    running.refresh()

    status, answer = infer(running, event)
    assert (status, answer["model_version"]) == (200, old)
    assert "cpu/model.onnx" in get(running, event, "/v2/health/ready")[1]["newer_release_refused"]


def test_GIVEN_a_newer_release_WHEN_refreshed_THEN_it_is_served(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    cloud.publish(tiny_graph(1.0))
    running = start(environ, time.monotonic)
    newer = cloud.publish(tiny_graph(2.0))

    running.refresh()

    assert infer(running, event)[1]["model_version"] == newer
    assert [folder.name for folder in Path(environ["TMPDIR"], "turnout").iterdir()] == [newer]


def test_GIVEN_a_batch_whose_answer_lambda_cannot_carry_WHEN_asked_THEN_413_and_binary_works(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    cloud.publish(tiny_graph(1.0))
    running = start(environ, time.monotonic)
    items = 138_000
    image = {"name": "image", "datatype": "FP32", "shape": [items, 1, 2, 2], "data": [1, 0, 0, 0] * items}

    status, answer = infer(running, event, {"inputs": [image], "parameters": {"latency_slo_ms": 30000}})

    assert status == 413
    assert "fewer items" in answer["error"]
    wanted = {"name": "confidence", "parameters": {"binary_data": True}}
    body = json.dumps({"inputs": [image], "outputs": [wanted], "parameters": {"latency_slo_ms": 30000}})
    assert running.answer(event("POST", "/v2/models/tiny/infer", body), "id")["statusCode"] == 200


def test_GIVEN_a_batch_that_takes_too_long_WHEN_asked_THEN_413_before_it_is_begun(
    cloud: Any, environ: dict[str, str], event: Event, tiny_graph: Callable[[float], bytes]
) -> None:
    slow = {"memory_mb": 1769, "service_ms": {"p50": 9000, "p99": 9900}, "init_ms": 200, "accuracy": 0.9}
    cloud.publish(tiny_graph(1.0), profile={"name": "tiny", "cpu": slow})
    running = start(environ, time.monotonic)
    image = {"name": "image", "datatype": "FP32", "shape": [4, 1, 2, 2], "data": [1, 0, 0, 0] * 4}

    status, answer = infer(running, event, {"inputs": [image], "parameters": {"latency_slo_ms": 30000}})

    assert status == 413
    assert "items: 4" in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/v2/models/other", 404, "tiny"),
        ("GET", "/v2/models/tiny/versions/abc", 404, "version"),
        ("GET", "/nowhere", 404, "/v2/models/{model}"),
        ("GET", "/v2/models/tiny/infer", 405, "POST"),
    ],
)
def test_GIVEN_a_wrong_address_WHEN_asked_THEN_a_4xx_that_says_what_there_is(
    cloud: Any,
    environ: dict[str, str],
    event: Event,
    tiny_graph: Callable[[float], bytes],
    method: str,
    path: str,
    status: int,
    word: str,
) -> None:
    cloud.publish(tiny_graph(1.0))
    running = start(environ, time.monotonic)

    result = running.answer(event(method, path), "id")

    assert result["statusCode"] == status
    assert word in json.loads(result["body"])["error"]
