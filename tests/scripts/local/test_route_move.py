"""Given a model under `auto`, when the control loop moves the API's route under load, then nothing is lost.

Real: the HTTP API in moto, its stage variable, the adapter that sets it, the control loop, the gateway and
two functions in sandboxes. By hand: the endpoint, and the reports of the minutes that the loop goes through.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.adapters.api_route import ApiRoute
from handlers.adapters.control_ports import Ports
from handlers.adapters.endpoint_metrics import EndpointMetrics
from handlers.adapters.state import StateTable
from handlers.routing.controlled import read_models
from scripts.local.deployed import Alias, Deployed, Function, read_apis
from scripts.local.function_host import FunctionHost
from scripts.local.gateway import Gateway
from scripts.local.moto_api_gateway import teach_api_gateway
from scripts.local.payload import HttpRequest
from scripts.local.runtime_folder import make_runtime_folder
from scripts.local.sandbox import Sandbox
from tests.handlers.test_control import ENTRY, TABLE, Fleet, Releases, World, _manifest

CYCLES = 3
RATE_RPS = 50.0
KEYS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
HANDLER = """
import os, time

def handler(event, context):
    time.sleep(0.01)
    return {"statusCode": 200, "body": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}
"""
INFER = HttpRequest("POST", "/v2/models/digits/infer", "", [], b"{}", "127.0.0.1")


class Host(FunctionHost):
    """Functions whose package is here."""

    package: Path

    async def _sandbox(self, function: Function) -> Sandbox:
        return Sandbox(function, self.package, self._runtime, {}, self._logs)


def function(name: str) -> Function:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{name}:1"
    return Function(name, "1", arn, "index.handler", "python3.11", 128, 20.0, {}, "", "")


@pytest.fixture
def api() -> Iterator[Any]:
    """A deployed HTTP API whose route to the model is a stage variable, and the state table."""
    teach_api_gateway()
    with mock_aws():
        boto3.client("dynamodb", **KEYS).create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": n, "KeyType": t} for n, t in (("pk", "HASH"), ("sk", "RANGE"))],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        )
        client = boto3.client("apigatewayv2", **KEYS)
        api_id = client.create_api(Name="api", ProtocolType="HTTP")["ApiId"]
        uri = "arn:aws:lambda:us-east-1:123456789012:function:${stageVariables.digits}"
        integration = client.create_integration(
            ApiId=api_id, IntegrationType="AWS_PROXY", IntegrationUri=uri, PayloadFormatVersion="2.0"
        )
        target = f"integrations/{integration['IntegrationId']}"
        client.create_route(ApiId=api_id, RouteKey="ANY /v2/models/digits/{proxy+}", Target=target)
        variables = {"digits": ENTRY["function"]}
        client.create_stage(ApiId=api_id, StageName="$default", StageVariables=variables)
        yield client, api_id


def world_of(client: Any, api_id: str) -> World:
    (controlled,) = read_models(json.dumps([ENTRY]))
    table, fleet, releases = (
        StateTable(boto3.client("dynamodb", **KEYS), TABLE),
        Fleet(),
        Releases(_manifest()),
    )
    route = ApiRoute(client, api_id, "$default", "digits")
    ports = Ports(
        table=table,
        enabled=lambda: True,
        source=lambda _: releases,
        fleet=lambda _: fleet,
        metrics=lambda _, __: EndpointMetrics(0.0, None, None),
        route=lambda _: route,
    )
    return World(controlled, table, fleet, route, ports)


def up_and_down(world: World) -> list[str]:
    """Let an instance earn itself and lose itself again, several times; return the moves that were made."""
    moves: list[str] = []
    minute = 0

    def rounds(until: str, requests: int) -> None:
        nonlocal minute
        for _ in range(120):
            world.traffic(minute - 1, requests)
            moves.extend(each for each in world.round(minute)["digits"]["reasons"] if "route to" in each)
            minute += 1
            if world.fleet.now.starting:
                world.fleet.arrive()
            if world.route.target() == until:
                return
        pytest.fail(f"the route did not come to {until}")

    for _ in range(CYCLES):
        rounds(ENTRY["front"], 6_000)
        rounds(ENTRY["function"], 1)
    return moves


@pytest.mark.slow
def test_no_request_is_lost_when_the_control_loop_moves_the_route(api: Any, tmp_path: Path) -> None:
    client, api_id = api
    world = world_of(client, api_id)
    names = [ENTRY[key].partition(":")[0] for key in ("function", "front")]
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "index.py").write_text(HANDLER)
    host = Host(make_runtime_folder(tmp_path / "runtime"), tmp_path, tmp_path / "log", {}, 10)
    host.package = tmp_path / "package"
    functions = {(name, "1"): function(name) for name in names}
    deployed = Deployed(functions, {(name, "live"): Alias("1") for name in names}, (), (), ())
    gateway = Gateway(host, tmp_path)

    async def follow() -> None:
        while True:
            apis = await asyncio.to_thread(read_apis, client)
            host.update(replace(deployed, apis=apis))
            await asyncio.sleep(0.05)

    async def clients(stop: asyncio.Event) -> list[tuple[int, str]]:
        """Open loop: a request goes out when its time has come, whatever became of those before."""
        sent: list[asyncio.Task[Any]] = []
        while not stop.is_set():
            sent.append(asyncio.create_task(gateway.answer(INFER)))
            await asyncio.sleep(1.0 / RATE_RPS)
        return [(answer.status, answer.body.decode()) for answer in await asyncio.gather(*sent)]

    async def whole() -> tuple[list[tuple[int, str]], list[str]]:
        host.update(replace(deployed, apis=read_apis(client)))
        for name in names:  # cold starts are not what is tried here
            await host.invoke(name, "live", b"{}")
        stop = asyncio.Event()
        following, calling = asyncio.create_task(follow()), asyncio.create_task(clients(stop))
        try:
            moves = await asyncio.to_thread(up_and_down, world)
            await asyncio.sleep(0.3)
        finally:
            stop.set()
            answers = await calling
            following.cancel()
            await host.close()
        return answers, moves

    answers, moves = asyncio.run(whole())

    assert [move.partition(":")[0] for move in moves] == ["route to split", "route to colocated"] * CYCLES
    assert {status for status, _ in answers} == {200}, "none lost"
    served = Counter(body for _, body in answers)
    assert set(served) == set(names)
    assert min(served.values()) >= CYCLES, served
