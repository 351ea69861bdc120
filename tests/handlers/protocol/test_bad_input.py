"""Whatever a caller sends wrong gets a 4xx that names the field, the value and what is allowed."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.adapters.wiring import Running

Event = Callable[..., dict[str, Any]]
GOOD: dict[str, Any] = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [9, 1, 0, 0]}]
}


def changed(path: str, value: Any) -> dict[str, Any]:
    body = copy.deepcopy(GOOD)
    target: Any = body
    *parents, last = path.split("/")
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
    target[last] = value
    return body


def post(running: Running, event: Event, body: str | bytes, headers: dict[str, str] | None = None) -> Any:
    made = event("POST", "/v2/models/tiny/infer", body if isinstance(body, str) else "", headers)
    if isinstance(body, bytes):
        made |= {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    result = running.answer(made, "id")
    return result["statusCode"], json.loads(result["body"])


def refused(answer: tuple[int, dict[str, Any]], *words: str, status: int = 400) -> None:
    assert answer[0] == status, answer
    for word in (*words, "allowed:"):
        assert word in answer[1]["error"]


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "NaN", "[" * 100_000])
def test_GIVEN_no_json_object_THEN_400(shared: Running, event: Event, body: str) -> None:
    refused(post(shared, event, body), "body")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("inputs", [], ["inputs", "image"]),
        ("inputs", {}, ["inputs"]),
        ("inputs", [7], ["inputs[0]", "7"]),
        ("inputs/0/name", "picture", ["inputs[0].name", "picture", "image"]),
        ("inputs/0/name", None, ["inputs[0].name"]),
        ("inputs/0/datatype", "INT64", ["inputs[0].datatype", "INT64", "FP32"]),
        ("inputs/0/shape", [1, 4], ["inputs[0].shape", "[1, 4]", "[-1, 1, 2, 2]"]),
        ("inputs/0/shape", [0, 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", [-1, 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", [True, 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", [1.0, 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", [[1], 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", [10**12, 1, 2, 2], ["inputs[0].shape"]),
        ("inputs/0/shape", "1,1,2,2", ["inputs[0].shape"]),
        ("inputs/0/data", [9, 1, 0], ["inputs[0].data", "3 elements", "4"]),
        ("inputs/0/data", [[9, 1], [0]], ["inputs[0].data"]),
        ("inputs/0/data", [9, 1, 0, "x"], ["inputs[0].data"]),
        ("inputs/0/data", [9, 1, 0, None], ["inputs[0].data"]),
        ("inputs/0/data", [True, False, True, True], ["inputs[0].data"]),
        ("inputs/0/data", [9, 1, 0, 10**400], ["inputs[0].data"]),
        ("inputs/0/data", [9, 1, 0, 1e39], ["inputs[0].data[3]", "inf"]),
        ("inputs/0/data", [9, float("nan"), 0, 0], ["inputs[0].data[1]", "nan"]),
        ("inputs/0/data", [9, 0, float("-inf"), 0], ["inputs[0].data[2]", "-inf"]),
        ("inputs/0/data", None, ["inputs[0].data"]),
        ("inputs/0/extra", 1, ["inputs[0].extra"]),
        ("inputs/0/parameters", {"binary_data_size": 16}, ["binary_data_size"]),
        ("extra", 1, ["extra"]),
        ("id", 7, ["id"]),
        ("outputs", [{"name": "logits"}], ["outputs[0].name", "logits", "probabilities"]),
        (
            "outputs",
            [{"name": "label", "parameters": {"classification": 2}}],
            ["classification", "binary_data"],
        ),
        ("outputs", [{"name": "label", "parameters": {"binary_data": 1}}], ["binary_data"]),
        ("parameters/latency_slo_ms", -5, ["parameters.latency_slo_ms", "-5"]),
        ("parameters/latency_slo_ms", 0, ["parameters.latency_slo_ms"]),
        ("parameters/latency_slo_ms", 10**9, ["parameters.latency_slo_ms", "30000"]),
        ("parameters/latency_slo_ms", float("nan"), ["parameters.latency_slo_ms"]),
        ("parameters/latency_slo_ms", 10**400, ["parameters.latency_slo_ms"]),
        ("parameters/latency_slo_ms", "soon", ["parameters.latency_slo_ms", "soon"]),
        ("parameters/latency_slo_ms", True, ["parameters.latency_slo_ms"]),
        ("parameters/attainment", 1, ["parameters.attainment"]),
        ("parameters/max_cost_usd", -1, ["parameters.max_cost_usd"]),
        ("parameters/min_confidence", 1.1, ["parameters.min_confidence"]),
        ("parameters/path", "tpu", ["parameters.path", "tpu", "cpu, gpu"]),
        ("parameters/quality", 3, ["parameters.quality", "cheap"]),
        ("parameters/priority", "vip", ["parameters.priority", "interactive"]),
        ("parameters/on_miss", "wait", ["parameters.on_miss", "refuse"]),
        ("parameters/colour", "red", ["parameters.colour", "latency_slo_ms"]),
        ("parameters", 3, ["parameters"]),
    ],
)
def test_GIVEN_one_wrong_field_THEN_400_names_it(
    shared: Running, event: Event, path: str, value: Any, words: list[str]
) -> None:
    refused(post(shared, event, json.dumps(changed(path, value))), *words)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-turnout-latency-slo-ms": "-1"}, ["x-turnout-latency-slo-ms", "-1"]),
        ({"x-turnout-path": "tpu"}, ["x-turnout-path", "tpu"]),
        ({"x-turnout-colour": "red"}, ["x-turnout-colour", "x-turnout-path"]),
        ({"inference-header-content-length": "0"}, ["Inference-Header-Content-Length"]),
        ({"inference-header-content-length": "ten"}, ["Inference-Header-Content-Length", "ten"]),
        ({"inference-header-content-length": "999999"}, ["Inference-Header-Content-Length", "999999"]),
        ({"content-encoding": "br"}, ["Content-Encoding", "br", "gzip"]),
        ({"content-encoding": "gzip"}, ["body", "gzip"]),
    ],
)
def test_GIVEN_a_wrong_header_THEN_400_names_it(
    shared: Running, event: Event, headers: dict[str, str], words: list[str]
) -> None:
    refused(post(shared, event, json.dumps(GOOD), headers), *words)


def test_GIVEN_a_header_that_contradicts_the_body_THEN_400_names_both(shared: Running, event: Event) -> None:
    body = json.dumps(changed("parameters/latency_slo_ms", 80))

    refused(post(shared, event, body, {"x-turnout-latency-slo-ms": "50"}), "x-turnout-latency-slo-ms", "80")
    assert post(shared, event, body, {"x-turnout-latency-slo-ms": "80.0"})[0] == 200


def binary_body(data: bytes, size: int | None = None) -> tuple[bytes, dict[str, str]]:
    entry = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2]}
    entry |= {"parameters": {"binary_data_size": len(data) if size is None else size}}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


@pytest.mark.parametrize(
    ("data", "size", "words"),
    [
        (bytes(12), None, ["binary_data_size", "12", "16 bytes"]),
        (bytes(12), 16, ["binary_data_size", "16", "0 to 12"]),
        (bytes(20), 16, ["20 bytes after the JSON", "16"]),
        (bytes(16), -4, ["binary_data_size", "-4"]),
        (np.array([1, np.nan, 0, 0], dtype=np.float32).tobytes(), None, ["inputs[0] (binary)[1]", "nan"]),
    ],
)
def test_GIVEN_a_wrong_binary_tensor_THEN_400_names_it(
    shared: Running, event: Event, data: bytes, size: int | None, words: list[str]
) -> None:
    body, headers = binary_body(data, size)

    refused(post(shared, event, body, headers), *words)


def test_GIVEN_too_large_a_body_THEN_413(shared: Running, event: Event) -> None:
    refused(post(shared, event, b"x" * (6 * 1024 * 1024 + 1)), "6291457 bytes", "6291456", status=413)
    bomb = gzip.compress(bytes(50_000_000))
    refused(post(shared, event, bomb, {"content-encoding": "gzip"}), "at most 6291456 bytes", status=413)


def test_GIVEN_half_a_gzip_or_no_base64_THEN_400(shared: Running, event: Event) -> None:
    half = gzip.compress(json.dumps(GOOD).encode())[:-12]
    refused(post(shared, event, half, {"content-encoding": "gzip"}), "ends too early")
    made = event("POST", "/v2/models/tiny/infer", "§§") | {"isBase64Encoded": True}
    assert shared.answer(made, "id")["statusCode"] == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        [
            "inputs",
            "inputs/0/name",
            "inputs/0/shape",
            "inputs/0/data",
            "inputs/0/datatype",
            "inputs/0/parameters",
            "outputs",
            "parameters",
            "id",
            "parameters/latency_slo_ms",
            "parameters/path",
        ]
    ),
    value=json_values,
)
def test_GIVEN_anything_at_all_in_a_field_THEN_never_a_5xx(
    shared: Running, event: Event, path: str, value: Any
) -> None:
    status, answer = post(shared, event, json.dumps(changed(path, value)))

    assert status in (200, 400), answer


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=80), size=st.text(max_size=4))
def test_GIVEN_any_bytes_THEN_never_a_5xx(shared: Running, event: Event, body: bytes, size: str) -> None:
    assert post(shared, event, body, {"inference-header-content-length": size})[0] == 400
