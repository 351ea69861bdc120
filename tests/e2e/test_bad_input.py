"""Whatever a caller sends, the answer is a 4xx that names the field, the value and what is allowed."""

from __future__ import annotations

import json
import shutil
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0.0] * 64}


def post(
    project: Project, body: bytes, path: str = "/v2/models/digits/infer", **headers: str
) -> tuple[int, str]:
    """(status, the whole body)."""
    named = {
        "content-type": "application/json",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    request = urllib.request.Request(project.url + path, body, named)
    try:
        with urllib.request.urlopen(request, timeout=35) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def infer(*inputs: dict[str, Any], **parameters: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **({"parameters": parameters} if parameters else {})}).encode()


CASES: dict[str, tuple[bytes, list[str]]] = {
    "not JSON": (b"{", ["body"]),
    "wrong shape": (infer({**IMAGE, "shape": [1, 1, 4, 4], "data": [0.0] * 16}), ["shape", "4", "8"]),
    "wrong dtype": (infer({**IMAGE, "datatype": "INT64", "data": [0] * 64}), ["datatype", "INT64", "FP32"]),
    "wrong element count": (infer({**IMAGE, "data": [0.0] * 63}), ["data", "63", "64"]),
    "wrong name": (infer({**IMAGE, "name": "picture"}), ["picture", "image"]),
    "NaN": (infer({**IMAGE, "data": [float("nan")] + [0.0] * 63}), ["data", "nan"]),
    "infinity": (infer({**IMAGE, "data": [float("inf")] + [0.0] * 63}), ["data", "inf"]),
    "negative objective": (infer(IMAGE, latency_slo_ms=-1), ["latency_slo_ms", "-1"]),
    "absurd objective": (infer(IMAGE, latency_slo_ms=1e12), ["latency_slo_ms", "30000"]),
    "unknown path": (infer(IMAGE, path="tpu"), ["path", "tpu", "cpu", "gpu"]),
    "unknown parameter": (infer(IMAGE, speed="fast"), ["speed", "fast", "latency_slo_ms"]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_body_is_named(running: Project, case: str) -> None:
    body, told = CASES[case]
    status, answer = post(running, body)
    assert 400 <= status < 500, answer
    error = json.loads(answer)["error"].lower()
    assert [word for word in told if word.lower() not in error] == [], error


def test_an_unknown_model_is_named(running: Project) -> None:
    status, answer = post(running, infer(IMAGE), "/v2/models/nothing/infer")
    assert status == 404
    assert "nothing" in json.loads(answer)["error"]
    assert "digits" in json.loads(answer)["error"]


def test_a_header_that_contradicts_the_body(running: Project) -> None:
    status, answer = post(running, infer(IMAGE, latency_slo_ms=100), x_turnout_latency_slo_ms="200")
    assert status == 400
    assert "x-turnout-latency-slo-ms" in json.loads(answer)["error"]


def test_a_truncated_binary_tensor(running: Project) -> None:
    head = {key: value for key, value in IMAGE.items() if key != "data"}
    header = json.dumps({"inputs": [{**head, "parameters": {"binary_data_size": 256}}]}).encode()
    body = header + struct.pack("<63f", *[0.0] * 63)
    status, answer = post(
        running,
        body,
        content_type="application/octet-stream",
        inference_header_content_length=str(len(header)),
    )
    assert status == 400
    error = json.loads(answer)["error"]
    assert "252" in error
    assert "256" in error


@pytest.mark.parametrize("size_mb", [6, 8, 11])
def test_a_body_that_is_too_large(running: Project, size_mb: int) -> None:
    status, answer = post(running, b'{"inputs": "' + b"x" * (size_mb * 1024 * 1024) + b'"}')
    assert status == 413
    found = json.loads(answer)
    assert found["message"] == "Request Too Long"
    assert "body" in found["error"]
    assert "allowed" in found["error"]


SPOILT = {
    "unknown key": ("latency_slo_ms = 200", "latency = 200", ["latency", "latency_slo_ms"]),
    "wrong unit": ("latency_slo_ms = 200", 'latency_slo_ms = "200 ms"', ["latency_slo_ms", "200 ms"]),
    "GPU type": ('"ml.g4dn.xlarge"', '"ml.g99.xlarge"', ["instance_type", "ml.g99.xlarge", "ml.g4dn.xlarge"]),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_configuration_is_an_error_of_one_line(tmp_path: Path, case: str) -> None:
    # Given turnout.toml with one mistake in it
    sound, spoilt, told = SPOILT[case]
    project = make_project(tmp_path)
    toml = tmp_path / "turnout.toml"
    text = toml.read_text()
    toml.unlink()
    toml.write_text(text.replace(sound, spoilt, 1))
    # When the cloud is to start
    done = project.run("up")
    # Then nothing started, and the message names the key, the value and what is allowed
    assert done.returncode == 2
    assert [word for word in told if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".turnout" / "local" / "state.json").exists()
    shutil.rmtree(tmp_path / ".turnout" / "local", ignore_errors=True)
