"""The loop closed: a function answers and reports, the control function learns, the function reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handlers import control
from handlers.adapters.bootstrap import start
from handlers.adapters.state import StateTable
from handlers.routing.codec import from_json

from .conftest import ECONOMICS, Cloud, environ_of, graph

SURE = [9, 1, 0, 0]


@dataclass
class Context:
    """What Powertools and the handler read of Lambda's context."""

    function_name: str = "turnout-test-control"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:turnout-test-control"
    aws_request_id: str = "request-1"


@pytest.fixture
def table(cloud: Cloud) -> str:
    name = f"{cloud.name}-state"
    cloud.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": n, "KeyType": t} for n, t in (("pk", "HASH"), ("sk", "RANGE"))],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
    )
    return name


@pytest.fixture
def controlled(cloud: Cloud, table: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The control function's environment, with a release, a table and a kill switch that lets it act."""
    cloud.publish(graph())
    cloud.client("ssm").put_parameter(Name=f"/{cloud.name}/enabled", Value="true", Type="String")
    model = {
        "model": "tiny",
        "pointer": cloud.pointer,
        "topology": "colocated",
        "economics": ECONOMICS,
        "min_instances": 0,
        "max_instances": 0,
    }
    environ = cloud.environ | {
        "TURNOUT_BUCKET": cloud.bucket,
        "TURNOUT_TABLE": table,
        "TURNOUT_KILL_SWITCH": f"/{cloud.name}/enabled",
        "TURNOUT_MODELS": json.dumps([model]),
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    control._started.cache_clear()
    return cloud


def test_what_a_function_saw_comes_back_to_it_as_a_snapshot(
    controlled: Cloud, table: str, tmp_path: Path, event: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = environ_of(controlled, tmp_path) | {"TURNOUT_TABLE": table}
    running = start(environ, lambda: 0.0)
    service, state = running.service, StateTable(controlled.client("dynamodb"), table)
    running.upkeep._reported_at = control.time.time()  # the test reports itself, for a minute that is over
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": SURE}]}
    for _ in range(5):
        assert (
            running.answer(event("POST", "/v2/models/tiny/infer", json.dumps(body)), "id")["statusCode"]
            == 200
        )
    minute = int(control.time.time() // 60) - 1
    state.report("tiny", minute, "sandbox", service._observer.drain().to_json(), control.time.time())

    done = control.handler({}, Context())

    assert (done["tiny"]["version"], done["tiny"]["requests"]) == (1, 5.0)
    row = state.snapshot("tiny")
    assert row is not None
    assert from_json(row.body).release == service.holder.current().manifest.release
    running.upkeep.read_snapshot()
    route = running.answer(event("GET", "/v2/models/tiny/route"), "id")
    assert json.loads(route["body"])["snapshot"]["version"] == 1


def test_the_kill_switch_stops_it(controlled: Cloud, table: str) -> None:
    controlled.client("ssm").put_parameter(
        Name=f"/{controlled.name}/enabled", Value="false", Type="String", Overwrite=True
    )
    assert control.handler({}, Context()) == {"skipped": "kill_switch"}
    assert StateTable(controlled.client("dynamodb"), table).snapshot("tiny") is None


def test_without_a_release_there_is_nothing_to_do(controlled: Cloud) -> None:
    controlled.point("none")
    assert "no release" in control.handler({}, Context())["tiny"]["skipped"]
