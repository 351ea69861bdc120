"""Given the laptop's Lambda, when boto3 invokes, then it answers, queues or throttles as Lambda does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError

from handlers.adapters.upkeep import AwsClients, Upkeep
from handlers.serving.shadow import EVENT_KEY
from handlers.settings import Settings
from scripts.local.data_plane import DataPlane
from scripts.local.deployed import Alias, Deployed, Function
from scripts.local.endpoint_host import EndpointHost
from scripts.local.function_host import FunctionHost
from scripts.local.runtime_folder import make_runtime_folder
from scripts.local.sandbox import Sandbox

HANDLER = """
import json, os, time

def handler(event, context):
    time.sleep(event.get("sleep_s", 0))
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(json.dumps(event) + "\\n")
    return {"ok": True}
"""
NAME = "turnout-test-digits"


class Host(FunctionHost):
    """A function whose package is here."""

    package: Path

    async def _sandbox(self, function: Function) -> Sandbox:
        return Sandbox(function, self.package, self._runtime, {}, self._logs)


def with_lambda(tmp_path: Path, work: Callable[[str], Awaitable[Any]]) -> Any:
    """Run `work` with the URL of a data plane that hosts one function of one call at once."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "index.py").write_text(HANDLER)
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{NAME}:1"
    function = Function(
        NAME, "1", arn, "index.handler", "python3.11", 128, 20.0, {"SEEN": str(tmp_path / "seen")}, "", "",
        concurrency=1,
    )  # fmt: skip

    async def whole() -> Any:
        host = Host(make_runtime_folder(tmp_path / "runtime"), tmp_path, tmp_path / "log", {}, 4)
        host.package = tmp_path / "package"
        host.update(Deployed({(NAME, "1"): function}, {(NAME, "live"): Alias("1")}, (), (), ()))

        async def report(*_: Any) -> None:
            """No endpoint here."""

        async def status(_: web.Request) -> web.Response:
            return web.Response()

        endpoints = EndpointHost(lambda _: pytest.fail("no endpoint here"), report)
        app = DataPlane(host, endpoints, "http://localhost:1").app(status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            return await work(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()
            await host.close()

    return asyncio.run(whole())


async def seen(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    file = tmp_path / "seen"
    for _ in range(200):
        if file.is_file() and len(file.read_text().splitlines()) >= count:
            break
        await asyncio.sleep(0.05)
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_shadow_is_invoked_asynchronously_through_the_real_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "TURNOUT_MODEL": "digits",
        "TURNOUT_BUCKET": "b",
        "TURNOUT_POINTER": "/p",
        "TURNOUT_ALIAS": "live",
        "TURNOUT_LATENCY_SLO_MS": "200",
        "TURNOUT_ECONOMICS": "{}",
        "AWS_LAMBDA_FUNCTION_NAME": NAME,
    }
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    async def work(url: str) -> list[dict[str, Any]]:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        with ThreadPoolExecutor(2) as pool:
            clients = AwsClients("us-east-1")
            upkeep = Upkeep(Settings.from_env(environ), clients, pool, Logger("test"), lambda: None, 0.0)
            await asyncio.to_thread(upkeep._invoke, {EVENT_KEY: {"release": "r", "header": 1, "body": ""}})
            clients.get("lambda").close()
        return await seen(tmp_path, 1)

    assert with_lambda(tmp_path, work) == [{EVENT_KEY: {"release": "r", "header": 1, "body": ""}}]


def test_a_call_too_many_is_refused_and_an_event_too_many_waits(tmp_path: Path) -> None:
    async def work(url: str) -> tuple[Any, list[dict[str, Any]]]:
        client = boto3.client(
            "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test",
            aws_secret_access_key="test", config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip

        def invoke(event: dict[str, Any], kind: str = "RequestResponse") -> Any:
            payload = json.dumps(event).encode()
            reply = client.invoke(FunctionName=NAME, Qualifier="live", InvocationType=kind, Payload=payload)
            reply["Payload"].read()
            return reply

        await asyncio.to_thread(invoke, {"warm": True})
        busy = asyncio.create_task(asyncio.to_thread(invoke, {"sleep_s": 0.5}))
        await asyncio.sleep(0.2)
        with pytest.raises(ClientError) as refused:
            await asyncio.to_thread(invoke, {"second": True})
        queued = await asyncio.to_thread(invoke, {"queued": True}, "Event")
        assert queued["StatusCode"] == 202
        await busy
        client.close()
        return refused.value.response, await seen(tmp_path, 3)

    refused, events = with_lambda(tmp_path, work)
    assert refused["Error"]["Code"] == "TooManyRequestsException"
    assert refused["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert events == [{"warm": True}, {"sleep_s": 0.5}, {"queued": True}]
