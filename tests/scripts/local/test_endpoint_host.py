"""Endpoints as SageMaker shows them: capacity that follows what is asked, errors in its own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.local.deployed import Variant
from scripts.local.endpoint_host import EndpointAnswer, EndpointHost
from scripts.local.gpu_process import GpuProcess

SERVER = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if body == b"die":
            os._exit(1)
        status = 200 if body != b"busy" else 429
        self.answer(status, (self.headers.get("X-Amzn-SageMaker-Custom-Attributes") or "none").encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/x")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["TURNOUT_GPU_PORT"])), Handler).serve_forever()
"""


def variant(desired: int) -> Variant:
    return Variant("e", "gpu", "c", desired, "s3://b/releases/m/1/", {})


@pytest.fixture
def host(tmp_path: Path) -> tuple[EndpointHost, list[int]]:
    """A host of a container's least: the real process handling around a server of twenty lines."""
    server = tmp_path / "model_build" / "gpu_server"
    server.mkdir(parents=True)
    (server / "__main__.py").write_text(SERVER)
    (server / "__init__.py").touch()
    (server.parent / "__init__.py").touch()
    reported: list[int] = []

    async def report(_variant: Variant, current: int) -> None:
        reported.append(current)

    def launch(wanted: Variant) -> GpuProcess:
        return GpuProcess(wanted, tmp_path, tmp_path, tmp_path / "log", {"PYTHONPATH": str(tmp_path)})

    return EndpointHost(launch, report), reported


def run(host: EndpointHost, work: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        await host.open()
        try:
            return await work()
        finally:
            await host.close()

    return asyncio.run(whole())


async def until_ready(host: EndpointHost, count: int) -> None:
    for _ in range(200):
        await host.follow([variant(count)])
        if len(host.fleets["c"].ready) == count:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{count} processes did not become ready")


def invoke(host: EndpointHost, body: bytes, component: str = "c") -> Awaitable[EndpointAnswer]:
    return host.invoke("e", component, {"X-Amzn-SageMaker-Custom-Attributes": "deadline_ms=5"}, body)


def test_processes_follow_the_count_that_is_asked_and_what_runs_is_reported(
    host: tuple[EndpointHost, list[int]],
) -> None:
    endpoints, reported = host

    async def work() -> None:
        await until_ready(endpoints, 2)
        first = [process.pid for process in endpoints.fleets["c"].processes]
        await until_ready(endpoints, 1)
        assert [process.pid for process in endpoints.fleets["c"].processes] == first[:1]
        await until_ready(endpoints, 0)

    run(endpoints, work)
    assert reported[0] == 0
    assert reported[-3:] == [2, 1, 0]


def test_a_call_reaches_the_container_with_its_attributes(host: tuple[EndpointHost, list[int]]) -> None:
    endpoints, _ = host

    async def work() -> EndpointAnswer:
        await until_ready(endpoints, 1)
        return await invoke(endpoints, b"x")

    answer = run(endpoints, work)
    assert (answer.status, answer.body) == (200, b"deadline_ms=5")
    assert answer.headers["X-Amzn-Invoked-Production-Variant"] == "gpu"


@pytest.mark.parametrize(("body", "status"), [(b"busy", 429), (b"die", 500)])
def test_what_the_container_does_wrong_is_a_model_error(
    host: tuple[EndpointHost, list[int]], body: bytes, status: int
) -> None:
    endpoints, _ = host

    async def work() -> EndpointAnswer:
        await until_ready(endpoints, 1)
        return await invoke(endpoints, body)

    answer = run(endpoints, work)
    assert answer.status == 424
    assert answer.headers["X-Amzn-ErrorType"] == "ModelError"
    assert json.loads(answer.body)["OriginalStatusCode"] == status


def test_no_copies_is_no_capacity_and_no_endpoint_is_named(host: tuple[EndpointHost, list[int]]) -> None:
    endpoints, _ = host

    async def work() -> tuple[EndpointAnswer, EndpointAnswer]:
        await endpoints.follow([variant(0)])
        return await invoke(endpoints, b"x"), await invoke(endpoints, b"x", "other")

    asleep, unknown = run(endpoints, work)
    assert asleep.status == unknown.status == 400
    assert "has no capacity to process this request" in json.loads(asleep.body)["Message"]
    assert "Endpoint e of account" in json.loads(unknown.body)["Message"]
