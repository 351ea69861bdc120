"""A front answers through the model's function and the GPU; either may fail, and the other answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from handlers.adapters.bootstrap import start
from handlers.adapters.wiring import Running

SURE = [9, 1, 0, 0]


class Host(BaseHTTPRequestHandler):
    """Lambda's Invoke on a socket, in front of a function in this process; `mode` says how it fails."""

    protocol_version = "HTTP/1.1"
    mode: str
    function: Running
    invoked: list[tuple[str, float]]

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.invoked.append((self.path, time.monotonic()))
        if self.mode == "throttled":
            return self.reply(429, {"message": "slow"}, {"x-amzn-ErrorType": "TooManyRequestsException"})
        if self.mode == "crashed":
            return self.reply(200, {"errorMessage": "boom"}, {"X-Amz-Function-Error": "Unhandled"})
        if self.mode == "garbage":
            return self.reply(200, {"statusCode": 200, "body": "x"}, {})
        return self.reply(200, self.function.answer(event, "id"), {})

    def reply(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@pytest.fixture
def host(gpu_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    function = start(gpu_environ, time.monotonic)
    handler = type("Handler", (Host,), {"mode": "ok", "function": function, "invoked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def front(host: Any, gpu_environ: dict[str, str], event: Callable[..., Any]) -> Running:
    running = start(
        gpu_environ | {"TURNOUT_ROLE": "front", "TURNOUT_MODEL_FUNCTION": "turnout-test-tiny:live"},
        time.monotonic,
    )
    ask(running, event, path="gpu", latency_slo_ms=20_000)  # both clients are made
    ask(running, event, path="cpu", latency_slo_ms=20_000)
    host.invoked.clear()
    return running


def ask(running: Running, event: Callable[..., Any], **parameters: Any) -> tuple[int, dict[str, Any]]:
    body = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": SURE}],
        "parameters": {"latency_slo_ms": 400, **parameters},
    }
    result = running.answer(event("POST", "/v2/models/tiny/infer", json.dumps(body)), "id")
    answer = json.loads(result["body"])
    if result["statusCode"] == 200:
        answer["labels"] = next(output["data"] for output in answer["outputs"] if output["name"] == "label")
    return result["statusCode"], answer


def test_GIVEN_a_front_WHEN_the_cpu_answers_THEN_it_was_the_models_function(
    front: Running, host: Any, event: Callable[..., Any]
) -> None:
    status, answer = ask(front, event, path="cpu")

    assert (status, answer["labels"], answer["parameters"]["path"]) == (200, ["red"], "cpu")
    assert [path for path, _ in host.invoked] == [
        "/2015-03-31/functions/turnout-test-tiny%3Alive/invocations"
    ]


def test_GIVEN_a_front_WHEN_the_gpu_answers_THEN_the_models_function_was_not_paid(
    front: Running, host: Any, event: Callable[..., Any]
) -> None:
    status, answer = ask(front, event, path="gpu")

    assert (status, answer["labels"]) == (200, ["blue"])
    assert host.invoked == []


def test_GIVEN_a_hanging_gpu_WHEN_a_front_waits_THEN_the_standby_is_asked_late_and_answers_in_time(
    front: Running, host: Any, event: Callable[..., Any], endpoint: Any
) -> None:
    endpoint.set("hang")
    began = time.monotonic()

    status, answer = ask(front, event, path="gpu")

    assert (status, answer["labels"]) == (200, ["red"])
    assert answer["parameters"]["degraded_reason"] == "gpu_late"
    assert host.invoked[0][1] - began > 0.1, "not asked for before it is needed"
    assert answer["parameters"]["actual_ms"] < 400 + 60


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["throttled", "crashed", "garbage"])
def test_GIVEN_a_failing_model_function_WHEN_the_cpu_was_chosen_THEN_the_gpu_answers(
    front: Running, host: Any, event: Callable[..., Any], endpoint: Any, mode: str
) -> None:
    host.mode = mode

    status, answer = ask(front, event)

    assert (status, answer["labels"], answer["parameters"]["path"]) == (200, ["blue"], "gpu")


def test_GIVEN_both_paths_broken_WHEN_asked_THEN_503_with_retry_after_and_no_traceback(
    front: Running, host: Any, event: Callable[..., Any], endpoint: Any
) -> None:
    host.mode = "crashed"
    endpoint.set("error")

    status, answer = ask(front, event)

    assert status == 503
    assert "neither path gives an answer" in answer["error"]


def test_GIVEN_a_front_WHEN_the_models_function_answers_for_it_THEN_only_the_front_counts_the_request(
    front: Running, host: Any, event: Callable[..., Any]
) -> None:
    observers = [running.service._observer for running in (front, host.function)]
    for observer in observers:
        observer.drain()
    ask(front, event, path="cpu")

    reports = [observer.drain() for observer in observers]
    counted = [{name: report.counts[name] for name in ("requests", "cpu")} for report in reports]
    assert counted == [{"requests": 1.0, "cpu": 0.0}, {"requests": 0.0, "cpu": 1.0}]


def test_GIVEN_a_fresh_front_WHEN_its_first_request_asks_the_gpu_THEN_its_client_is_there_already(
    host: Any, gpu_environ: dict[str, str], event: Callable[..., Any]
) -> None:
    running = start(
        gpu_environ | {"TURNOUT_ROLE": "front", "TURNOUT_MODEL_FUNCTION": "turnout-test-tiny:live"},
        time.monotonic,
    )
    status, answer = ask(running, event, path="gpu")
    assert (status, answer["labels"]) == (200, ["blue"])
