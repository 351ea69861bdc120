"""Given reports in the table, when the loop runs, then it publishes, scales and moves the route, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.adapters.api_route import ApiRoute
from handlers.adapters.control_ports import Ports
from handlers.adapters.endpoint_metrics import EndpointMetrics, MetricsReader
from handlers.adapters.gpu_fleet import FleetSize, GpuFleet
from handlers.adapters.state import StateTable
from handlers.control import WATCHED_S, run, watch
from handlers.errors import InvalidConfig, ReleaseError, TurnoutError
from handlers.routing.codec import from_json
from handlers.routing.control_codec import state_from_json
from handlers.routing.controlled import Controlled, read_models
from handlers.routing.controller import ControlState
from handlers.routing.report import Report, add_ms
from handlers.routing.types import Topology

from .routing.builders import MEDIUM, PRICES

NOW = 1_800_000_030.0
MINUTE = int(NOW // 60)
TABLE = "turnout-test-state"
ENTRY: dict[str, Any] = {
    "model": "digits",
    "pointer": "/turnout/test/digits/release",
    "endpoint": "turnout-test-digits",
    "inference_component": "",
    "variant": "main",
    "topology": "auto",
    "route_variable": "digits",
    "function": "turnout-test-digits:live",
    "front": "turnout-test-digits-front:live",
    "economics": {**PRICES, "gpu_hour": 0.5},
    "min_instances": 0,
    "max_instances": 4,
}


def _manifest() -> bytes:
    tensor = {"name": "image", "dtype": "FP32", "shape": [-1, 64]}
    file = {"sha256": "0" * 64, "bytes": 1}
    variant = {"precision": "fp32", "accuracy": 0.97, "size_bytes": 1, "temperature": 1.0}
    document = {
        "schema_version": 1,
        "model": "digits",
        "task": "classification",
        "metric": "accuracy",
        "labels": ["0", "1"],
        "toolchain": {"turnout": "0.1.0"},
        "inputs": [tensor],
        "preprocess": {"kind": "none"},
        "tensors": [tensor],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]}],
        "graph_output": {"name": "logits", "dtype": "FP32", "shape": [-1, 2]},
        "variants": {
            "cpu": {"file": "cpu/model.onnx", "opset": 20, "ort_min": "1.32.0", **variant},
            "gpu": {"file": "gpu/model.pt2", **variant},
        },
        "profile": MEDIUM,
        "samples": "samples.json",
        "files": {"cpu/model.onnx": file, "gpu/model.pt2": file, "samples.json": file},
    }
    return json.dumps(document, sort_keys=True).encode()


class Releases:
    """A release store of one manifest."""

    def __init__(self, manifest: bytes) -> None:
        self.manifest = manifest
        self.sha256 = hashlib.sha256(manifest).hexdigest()

    def pointer(self) -> str:
        return json.dumps({"release": self.sha256[:16], "manifest_sha256": self.sha256})

    def read(self, release: str, name: str) -> bytes:
        if (release, name) != (self.sha256[:16], "manifest.json"):
            raise ReleaseError(f"{release}/{name}")
        return self.manifest


class Gateway:
    """The two calls of apigatewayv2 that move a route; moto has no UpdateStage."""

    def __init__(self) -> None:
        self.variables = {"digits": ENTRY["function"], "mnist": "another:live"}

    def get_stage(self, ApiId: str, StageName: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert (ApiId, StageName) == ("api", "$default")
        return {"StageName": StageName, "StageVariables": dict(self.variables)}

    def update_stage(self, ApiId: str, StageName: str, StageVariables: dict[str, str]) -> None:  # noqa: N803
        assert (ApiId, StageName) == ("api", "$default")
        self.variables = StageVariables


class Fleet(GpuFleet):
    """An endpoint whose instances start when told."""

    def __init__(self) -> None:
        self.now = FleetSize(0, 0, True)
        self.asked: list[int] = []

    def size(self) -> FleetSize | None:
        return self.now

    def resize(self, target: int) -> None:
        self.asked.append(target)
        self.now = FleetSize(min(self.now.ready, target), max(target - self.now.ready, 0), True)

    def arrive(self) -> None:
        self.now = FleetSize(self.now.ready + self.now.starting, 0, True)


@dataclass
class World:
    """The loop's surroundings: a real table and API under moto, and a fleet."""

    controlled: Controlled
    table: StateTable
    fleet: Fleet
    route: ApiRoute
    ports: Ports
    enabled: bool = True

    def round(self, minute: int, owner: str = "one", *, dry_run: bool = False) -> dict[str, Any]:
        return run((self.controlled,), self.ports, owner, NOW + 60.0 * minute, dry_run=dry_run)

    def traffic(self, minute: int, requests: int, sandbox: str = "a") -> None:
        """Store a report of a minute relative to NOW's: requests spread evenly, answered on CPU in 300 ms."""
        report, first = Report(), (MINUTE + minute) * 60
        for i in range(requests):
            second = first + i * 60 // requests
            report.arrivals[second] = report.arrivals.get(second, 0.0) + 1.0
            add_ms(report.sketches, "cpu:1:warm", 300.0)
        report.counts.update(requests=requests, cpu=requests, met=requests, expected_met=requests)
        report.counts["cost_usd"] = requests * 1.6e-5
        self.table.report("digits", MINUTE + minute, sandbox, report.to_json(), NOW)


@pytest.fixture
def world() -> Iterator[World]:
    keys: dict[str, Any] = {
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    with mock_aws():
        dynamodb = boto3.client("dynamodb", **keys)
        dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": n, "KeyType": t} for n, t in (("pk", "HASH"), ("sk", "RANGE"))],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        )
        (controlled,) = read_models(json.dumps([ENTRY]))
        table, fleet, releases = StateTable(dynamodb, TABLE), Fleet(), Releases(_manifest())
        route = ApiRoute(Gateway(), "api", "$default", "digits")
        ports = Ports(
            table=table,
            enabled=lambda: surroundings.enabled,
            source=lambda _: releases,
            fleet=lambda _: fleet,
            metrics=lambda _, __: EndpointMetrics(0.0, None, None),
            route=lambda _: route,
        )
        surroundings = World(controlled, table, fleet, route, ports)
        yield surroundings


def test_a_round_publishes_what_was_reported(world: World) -> None:
    world.traffic(-1, 100)
    done = world.round(0)["digits"]
    row = world.table.snapshot("digits")
    assert row is not None
    snapshot = from_json(row.body)
    assert (done["requests"], done["version"], snapshot.version, row.version) == (100.0, 1, 1, 1)
    assert not snapshot.stale(NOW + 299.0)
    assert world.round(1)["digits"]["requests"] == 0.0  # each report counts once


def test_what_is_published_is_for_the_memory_that_the_function_has(world: World) -> None:
    half = replace(world.controlled.economics, model_memory_mb=884)  # of one vCPU; MEDIUM was timed on more
    world.controlled = replace(world.controlled, economics=half)
    world.round(0)
    row = world.table.snapshot("digits")
    assert row is not None
    assert from_json(row.body).latencies.cpu.curve(1).at(0.5) == pytest.approx(300 * 1769 / 884)


def test_heavy_traffic_earns_an_instance_and_silence_loses_it(world: World) -> None:
    asked_at, topologies = None, []
    for minute in range(30):
        world.traffic(minute - 1, 6_000 if minute < 15 else 1)
        done = world.round(minute)["digits"]
        topologies.append(done["topology"])
        if world.fleet.asked and asked_at is None:
            asked_at = minute
        if asked_at is not None and minute >= asked_at + 3:
            world.fleet.arrive()
    assert asked_at is not None
    assert asked_at < 10
    assert max(world.fleet.asked) >= 1
    assert world.fleet.asked[-1] == 0
    assert topologies[0] == topologies[-1] == "colocated"
    assert "split" in topologies
    assert world.route.target() == ENTRY["function"]


@pytest.mark.parametrize(("ready_after", "version"), [(3, 2), (None, 1)])
def test_an_instance_that_starts_is_looked_for_and_published_at_once(
    world: World, ready_after: int | None, version: int
) -> None:
    world.fleet.now = FleetSize(0, 1, False)
    world.round(0)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == ready_after:
            world.fleet.arrive()

    watch((world.controlled,), world.ports, lambda: NOW + sum(slept), sleep, NOW + WATCHED_S)

    row = world.table.snapshot("digits")
    assert row is not None
    published = from_json(row.body)
    assert published.gpu is not None
    assert (row.version, published.gpu.ready) == (version, int(ready_after is not None))
    assert (published.topology is Topology.SPLIT) == (ready_after is not None)
    assert len(slept) == (ready_after or WATCHED_S // slept[0])
    assert not world.fleet.asked


def test_nothing_is_waited_for_where_no_instance_starts(world: World) -> None:
    world.fleet.now = FleetSize(2, 0, True)
    watch((world.controlled,), world.ports, lambda: NOW, lambda _: pytest.fail("it slept"), NOW + WATCHED_S)


def test_a_kill_switch_that_is_set_meanwhile_stops_the_watch_from_publishing(world: World) -> None:
    world.fleet.now = FleetSize(0, 1, False)
    world.round(0)

    def sleep(_: float) -> None:
        world.enabled = False
        world.fleet.arrive()

    watch((world.controlled,), world.ports, lambda: NOW, sleep, NOW + WATCHED_S)

    row = world.table.snapshot("digits")
    assert row is not None
    assert row.version == 1


def test_a_model_that_fails_while_watched_does_not_stop_the_others(world: World) -> None:
    world.fleet.now = FleetSize(0, 1, False)
    world.round(0)
    broken, releases = replace(world.controlled, model="broken"), world.ports.source(world.controlled)

    def source(controlled: Controlled) -> Any:
        if controlled.model == "broken":
            raise OSError("unreadable")
        return releases

    ports = replace(world.ports, source=source)
    with pytest.raises(TurnoutError, match="failed for broken"):
        watch((broken, world.controlled), ports, lambda: NOW, lambda _: world.fleet.arrive(), NOW + WATCHED_S)

    row = world.table.snapshot("digits")
    assert row is not None
    assert row.version == 2


def test_the_route_leaves_the_front_a_round_before_the_last_instance_goes(world: World) -> None:
    world.fleet.now = FleetSize(1, 0, True)
    world.traffic(-1, 6_000)
    assert world.round(0)["digits"]["topology"] == "split"
    assert world.route.target() == ENTRY["front"]
    for minute in range(1, 60):
        world.round(minute)
        if world.route.target() == ENTRY["function"]:
            break
    assert 0 not in world.fleet.asked
    world.round(minute + 1)
    assert world.fleet.asked[-1] == 0


def test_the_other_models_routes_are_left_alone(world: World) -> None:
    world.route.lead_to("x:live")
    assert world.route._client.variables == {"digits": "x:live", "mnist": "another:live"}


def test_of_two_loops_one_acts(world: World) -> None:
    world.traffic(-1, 10)
    assert "digits" in world.round(0, "one")
    assert world.round(0, "two") == {"skipped": "lease"}
    assert "digits" in world.round(1, "two")


def test_a_loop_overtaken_between_reading_and_writing_does_nothing(world: World) -> None:
    class Overtaken(StateTable):
        def remember(self, model: str, body: str, version: int) -> bool:
            world.table.remember(model, body, version)
            return super().remember(model, body, version)

    world.ports = replace(world.ports, table=Overtaken(world.table._client, TABLE))
    assert world.round(0) == {"digits": {"skipped": "overtaken"}}
    assert world.table.snapshot("digits") is None


def memory_of(world: World) -> ControlState:
    row = world.table.memory("digits")
    assert row is not None
    return state_from_json(row.body)


def test_after_an_hour_of_death_it_resumes_with_all_that_was_reported_meanwhile(world: World) -> None:
    world.fleet.now = FleetSize(1, 0, True)
    world.traffic(-1, 10)
    world.round(0)
    world.fleet.now = FleetSize(1, 0, True)  # whatever the round has decided
    before = memory_of(world).spent_usd
    world.traffic(3, 500)
    world.traffic(58, 20)

    done = world.round(60)["digits"]

    assert (done["version"], done["requests"]) == (2, 520.0)
    rent_usd = 60 * 60.0 * 0.5 / 3600.0  # an hour, of which all was rented
    assert memory_of(world).spent_usd - before == pytest.approx(520 * 1.6e-5 + rent_usd)


def test_without_memory_it_begins_with_the_first_report_that_there_is(world: World) -> None:
    world.traffic(-50, 300)
    world.traffic(-1, 5)
    assert world.round(0)["digits"]["requests"] == 305.0
    assert len(memory_of(world).capacity.work_usd) == 5


def test_a_second_round_in_one_minute_charges_nothing_twice(world: World) -> None:
    world.fleet.now = FleetSize(1, 0, True)
    world.traffic(-1, 100)
    world.round(0)
    once = memory_of(world)
    world.round(0)
    twice = memory_of(world)
    assert (twice.spent_usd, twice.capacity) == (once.spent_usd, once.capacity)
    assert twice.snapshot_version == once.snapshot_version + 1


def test_corrupt_memory_snapshot_and_report_are_survived(world: World) -> None:
    for minute in range(3):
        world.round(minute)
    world.table.remember("digits", "{rubbish", 1_000)
    world.table.publish("digits", "rubbish", 50, NOW)
    world.table.report("digits", MINUTE + 2, "bad", "rubbish", NOW)
    world.traffic(2, 7)
    done = world.round(3)["digits"]
    assert (done["version"], done["requests"], done["reports_refused"]) == (51, 7.0, 1)
    memory = world.table.memory("digits")
    assert memory is not None
    assert state_from_json(memory.body).snapshot_version == 51


def test_the_kill_switch_and_a_dry_run_change_nothing(world: World) -> None:
    world.fleet.now = FleetSize(1, 0, True)
    world.enabled = False
    assert world.round(0) == {"skipped": "kill_switch"}
    world.enabled = True
    assert world.round(0, dry_run=True)["digits"]["reasons"]
    assert world.table.snapshot("digits") is None
    assert world.table.memory("digits") is None
    assert world.route.target() == ENTRY["function"]


def test_a_tampered_manifest_fails_the_round_and_acts_on_nothing(world: World) -> None:
    releases = Releases(_manifest())
    releases.manifest = releases.manifest.replace(b"0.97", b"0.99")
    world.ports = replace(world.ports, source=lambda _: releases)
    with pytest.raises(TurnoutError, match="digits"):
        world.round(0)
    assert world.table.snapshot("digits") is None


def test_a_route_that_somebody_moved_is_taken_as_it_is(world: World) -> None:
    world.round(0)
    world.route.lead_to(ENTRY["front"])
    assert world.round(1)["digits"]["topology"] == Topology.COLOCATED
    assert world.route.target() == ENTRY["function"]


def test_cloudwatch_latency_is_in_microseconds() -> None:
    class CloudWatch:
        asked: Any = None

        def get_metric_data(self, **query: Any) -> dict[str, Any]:
            self.asked = query
            values = {"invocations": [40.0], "concurrent": [2.5], "p50": [50_000.0]}
            values |= {"p95": [60_000.0], "p99": [75_000.0, 1.0], "no_capacity": [7.0]}
            return {"MetricDataResults": [{"Id": name, "Values": found} for name, found in values.items()]}

    client = CloudWatch()
    read = MetricsReader(client, "e", "main", "").read(NOW)
    assert read == EndpointMetrics(40.0, 2.5, (50.0, 60.0, 75.0), 7.0)
    assert client.asked["EndTime"].timestamp() == MINUTE * 60


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topology": "sideways"}, "topology"),
        ({"min_instances": 5}, "min_instances"),
        ({"max_instances": 1.5}, "max_instances"),
        ({"policy": "dearest"}, "policy"),
        ({"economics": []}, "economics"),
        ({"model": ""}, "model"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig, match=field):
        read_models(json.dumps([{**ENTRY, **change}]))


@pytest.mark.parametrize("raw", ["rubbish", "{}", "[1]"])
def test_settings_that_are_not_a_list_of_objects(raw: str) -> None:
    with pytest.raises(InvalidConfig, match="TURNOUT_MODELS"):
        read_models(raw)
