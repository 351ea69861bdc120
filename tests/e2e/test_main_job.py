"""Build, deploy, serve, route: as a user runs it, and what it then survives."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from typing import Any

import numpy as np
import pytest
from tritonclient import http as triton

from scripts.local.moto_gaps import GAPS
from tests.e2e.conftest import Project, client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLO_MS = 2000.0
"""Generous: the machine that runs the tests is busy; what is checked is that deadlines are kept."""


def samples(project: Project) -> list[dict[str, Any]]:
    releases = project.root / "releases" / "digits"
    release = releases / (releases / "current").read_text().strip()
    found: list[dict[str, Any]] = json.loads((release / "samples.json").read_text())["samples"]
    return found


def ask(project: Project, parameters: dict[str, Any], index: int = 0) -> dict[str, Any]:
    """POSTs one sample; the answer's JSON."""
    body = {
        "inputs": samples(project)[index]["inputs"],
        "parameters": {"latency_slo_ms": SLO_MS, **parameters},
    }
    request = urllib.request.Request(
        f"{project.url}/v2/models/digits/infer",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def label(answer: dict[str, Any]) -> str:
    return str(next(output for output in answer["outputs"] if output["name"] == "label")["data"][0])


def until_gpu_answers(project: Project) -> None:
    """The sandbox's breaker may still be open from the time when the endpoint was asleep."""
    project.wait_for(lambda: ask(project, {"path": "gpu"})["parameters"]["path"] == "gpu", 90)


def test_the_demo_says_what_to_try_and_what_each_answered(demo: subprocess.CompletedProcess[str]) -> None:
    # Given a project without a release; when the demo has run
    assert demo.returncode == 0, demo.stderr
    # Then it shows a curl line and a Python line with their answers, and said what it was doing
    assert "with curl:" in demo.stdout
    assert "with Python:" in demo.stdout
    assert demo.stdout.count("cheapest_feasible") >= 2
    assert "cdk deploy" in demo.stderr


def test_what_aws_skipped_is_what_the_list_of_gaps_says(running: Project) -> None:
    with urllib.request.urlopen(running.json("status")["aws"] + "/turnout/deployment") as answer:
        told = json.load(answer)
    assert told["failed"] == []
    assert set(told["skipped"]) == set(GAPS)


def test_a_second_demo_is_quick(running: Project) -> None:
    began = time.monotonic()
    again = running.run("demo")
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("command", ["invoke", "route"])
def test_commands_print_one_json_document(running: Project, command: str) -> None:
    found = running.json(command, "digits", "--sample", "3", "--slo-ms", "50")
    assert {"path", "reason"} <= set(found.get("parameters", found))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("path", ["cpu", "gpu"])
def test_an_unmodified_tritonclient_infers_on_both_paths(running: Project, path: str, binary: bool) -> None:
    # Given metadata read with tritonclient
    until_gpu_answers(running)
    server = triton.InferenceServerClient(f"localhost:{running.api_port}")
    metadata = server.get_model_metadata("digits")
    example = samples(running)[1]
    data = np.array(example["inputs"][0]["data"], np.float32).reshape(example["inputs"][0]["shape"])
    given = triton.InferInput(metadata["inputs"][0]["name"], list(data.shape), "FP32")
    given.set_data_from_numpy(data, binary_data=binary)
    wanted = [triton.InferRequestedOutput(o["name"], binary_data=binary) for o in metadata["outputs"]]
    # When it infers
    answer = server.infer(
        "digits", [given], outputs=wanted, parameters={"path": path, "latency_slo_ms": SLO_MS}
    )
    # Then the answer came by that path and is right
    assert answer.get_response()["parameters"]["path"] == path
    assert answer.as_numpy("label")[0] in (example["label"], example["label"].encode())
    assert answer.as_numpy("probabilities").shape == (1, 10)
    server.close()


def test_too_little_confidence_escalates_to_the_gpu(running: Project) -> None:
    until_gpu_answers(running)
    found = ask(running, {"min_confidence": 1.0}, 1)["parameters"]
    assert found["path"] == "gpu" or found["escalated_items"] == 1, found


def test_killing_the_gpu_process_mid_request_still_answers_within_the_objective(running: Project) -> None:
    # Given a GPU that has a request in its hands: it is stopped, so that it cannot have answered before
    until_gpu_answers(running)
    pid = running.gpu()["pids"][0]
    example = samples(running)[2]
    got: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: got.append(ask(running, {"path": "gpu"}, 2)))
    os.kill(pid, signal.SIGSTOP)
    asking.start()
    time.sleep(0.3)
    # When it is killed
    os.kill(pid, signal.SIGKILL)
    asking.join(30)
    # Then the CPU's answer went out in time, says so, and is right
    told = got[0]["parameters"]
    assert told["path"] == "cpu"
    assert told["degraded"] is True
    assert told["actual_ms"] <= SLO_MS
    assert label(got[0]) == example["label"]
    # And the endpoint host starts another
    running.wait_for(lambda: running.gpu()["ready"] == 1 and pid not in running.gpu()["pids"], 120)


def restart_sandboxes(project: Project) -> None:
    """Ends the function's processes; the next request starts cold."""
    for row in project.json("status")["functions"]:
        if row["function"] == "turnout-local-digits":
            for pid in row["pids"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)


def readiness(project: Project) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{project.url}/v2/models/digits/ready", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.fixture
def pointer(running: Project) -> Any:
    """SSM's client and the pointer's name; the pointer is put back afterwards."""
    ssm, name = client(running, "ssm"), "/turnout/local/digits/release"
    value = ssm.get_parameter(Name=name)["Parameter"]["Value"]
    yield ssm, name, json.loads(value)
    ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
    restart_sandboxes(running)


def test_a_release_changed_by_one_byte_is_refused_with_the_reason(running: Project, pointer: Any) -> None:
    # Given the release with one byte of its model changed, in the bucket
    _, _, pointed = pointer
    s3, bucket = client(running, "s3"), "turnout-local-releases-123456789012"
    key = f"releases/digits/{pointed['release']}/cpu/model.onnx"
    sound = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    spoilt = bytes([sound[0] ^ 1]) + sound[1:]
    s3.put_object(Bucket=bucket, Key=key, Body=spoilt)
    try:
        # When a sandbox starts
        restart_sandboxes(running)
        status, told = readiness(running)
    finally:
        s3.put_object(Bucket=bucket, Key=key, Body=sound)
    # Then it is not ready, and says which file and why
    assert status == 424, told
    assert "cpu/model.onnx" in told
    assert "sha256" in told


def test_a_missing_pointer_is_named(running: Project, pointer: Any) -> None:
    ssm, name, _ = pointer
    ssm.delete_parameter(Name=name)
    restart_sandboxes(running)
    status, told = readiness(running)
    assert status == 404, told
    assert name in told
