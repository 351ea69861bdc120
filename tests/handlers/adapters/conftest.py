"""A SageMaker runtime on a real socket that can be told to misbehave."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from handlers.adapters.endpoint import MEDIA_TYPE, SIZE_PARAMETER
from handlers.protocol.infer import encode_outputs
from handlers.protocol.tensors import Tensor

BLUE = [0.0, 0.0, 9.0]


class Runtime(BaseHTTPRequestHandler):
    """Answers InvokeEndpoint as `mode` says; every item is classified as blue, which the CPU never says."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: Nagle's algorithm would make every call 40 ms late
    mode: str
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = int(self.headers["Content-Type"].partition(SIZE_PARAMETER)[2])
        request = json.loads(body[:head])
        attributes = self.headers["X-Amzn-SageMaker-Custom-Attributes"]
        self.seen.append({"request": request, "attributes": attributes, "port": self.client_address[1]})
        mode = self.mode
        if mode == "throttled_once":
            mode = "ok" if len(self.seen) > 1 else "throttled_briefly"
        getattr(self, f"mode_{mode}")(request["inputs"][0]["shape"][0])

    def mode_ok(self, items: int) -> None:
        logits = Tensor("logits", "FP32", np.tile(np.float32(BLUE), (items, 1)))
        content, size = encode_outputs([logits])
        self.reply(200, content, {"Content-Type": f"{MEDIA_TYPE};{SIZE_PARAMETER}{size}"})

    def mode_slow(self, items: int) -> None:
        time.sleep(0.6)
        self.mode_ok(items)

    def mode_hang(self, items: int) -> None:
        time.sleep(1.5)
        self.close_connection = True

    def mode_reset(self, items: int) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def mode_trickle(self, items: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        for _ in range(20):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def mode_throttled(self, items: int) -> None:
        self.error(429, "ThrottlingException", "slow down", {"Retry-After": "30"})

    def mode_throttled_briefly(self, items: int) -> None:
        self.error(429, "ThrottlingException", "slow down", {"Retry-After": "0.03"})

    def mode_error(self, items: int) -> None:
        self.error(500, "InternalFailure", "oops")

    def mode_unavailable(self, items: int) -> None:
        self.error(503, "ServiceUnavailable", "later")

    def mode_model_error(self, items: int) -> None:
        extra = {"OriginalStatusCode": 500, "OriginalMessage": "CUDA out of memory"}
        self.error(424, "ModelError", "the container answered with 500", body=extra)

    def mode_model_throttled(self, items: int) -> None:
        extra = {"OriginalStatusCode": 429, "OriginalMessage": "deadline"}
        self.error(424, "ModelError", "the container answered with 429", body=extra)

    def mode_asleep(self, items: int) -> None:
        self.error(400, "ValidationError", "Inference Component has no capacity to process this request.")

    def mode_garbage(self, items: int) -> None:
        self.reply(200, b"<html>not a tensor</html>", {"Content-Type": "text/html"})

    def mode_wrong_shape(self, items: int) -> None:
        self.mode_ok(items + 1)

    def mode_nan(self, items: int) -> None:
        content = {"outputs": [{"name": "logits", "datatype": "FP32", "shape": [items, 3]}]}
        content["outputs"][0]["data"] = [float("nan")] * items * 3  # type: ignore[assignment]  # a JSON object
        self.reply(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def error(
        self,
        status: int,
        code: str,
        message: str,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        content = json.dumps({"Message": message, **(body or {})}).encode()
        self.reply(status, content, {"x-amzn-ErrorType": code, **(headers or {})})

    def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


class QuietServer(ThreadingHTTPServer):
    """Clients that hang up are the point of these tests, not an error of the server."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet."""


class Endpoint:
    """The fake endpoint's handle: its mode may change between requests; `seen` are the requests."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.handler = type("Handler", (Runtime,), {"mode": "ok", "seen": self.seen})
        self.server = QuietServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def set(self, mode: str) -> None:
        self.handler.mode = mode  # type: ignore[attr-defined]  # a class made at run time
        self.seen.clear()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def gpu_environ(
    cloud: Any,
    environ: dict[str, str],
    endpoint: Endpoint,
    tiny_graph: Callable[[float], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The environment with a GPU path; boto3 reads its part from the process."""
    cloud.publish(tiny_graph(1.0))
    made = environ | {
        "TURNOUT_ENDPOINT": "turnout-test-tiny",
        "TURNOUT_ROUTING": json.dumps({"explore_share": 0.0}),  # by chance: not in these tests
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": endpoint.url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in made.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return made
