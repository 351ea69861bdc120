"""The shared stores behind a function: snapshots, reports, budgets, shadows; and life without them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handlers.adapters.bootstrap import start
from handlers.adapters.state import StateTable
from handlers.adapters.wiring import EventualGpu, Running
from handlers.routing.codec import to_json
from handlers.routing.report import Report, merged
from handlers.serving.shadow import EVENT_KEY

Ask = Callable[..., tuple[int, dict[str, Any]]]
UNSURE = [1.0, 0.9, 0, 0]


@pytest.fixture
def table(cloud: Any, gpu_environ: dict[str, str]) -> StateTable:
    name = f"{cloud.name}-state"
    client = cloud.client("dynamodb")
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    types = [{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")]
    client.create_table(
        TableName=name, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
    )
    gpu_environ["TURNOUT_TABLE"] = name
    return StateTable(client, name)


@pytest.fixture
def ask(event: Callable[..., Any]) -> Ask:
    def send(running: Running, row: list[float] = UNSURE, **kwargs: Any) -> tuple[int, dict[str, Any]]:
        context = kwargs.pop("context", {})
        headers = kwargs.pop("headers", {})
        body = {
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": row}],
            "parameters": kwargs,
        }
        made = event("POST", "/v2/models/tiny/infer", json.dumps(body), headers, **context)
        result = running.answer(made, "id")
        return result["statusCode"], json.loads(result["body"]) | {"headers": result["headers"]}

    return send


def eventually(check: Callable[[], bool], within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.02)
    return False


def publish(running: Running, table: StateTable, **changes: Any) -> None:
    opened = running.service._opened()
    snapshot = replace(opened.default, version=7, published_at=time.time(), ttl_s=180.0, **changes)
    assert table.publish("tiny", to_json(snapshot), 7, time.time() + 600)


def test_GIVEN_a_published_snapshot_WHEN_read_THEN_it_governs_the_next_decision(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask
) -> None:
    running = start(gpu_environ, time.monotonic)
    publish(running, table, policy="cpu_only")

    ask(running, latency_slo_ms=20_000)

    assert eventually(lambda: running.upkeep.published is not None)
    status, answer = ask(running, latency_slo_ms=20_000)
    assert status == 200
    assert answer["parameters"]["escalated_items"] == 0


@pytest.mark.parametrize("body", ["", "{", '{"schema_version": 99}', "x" * 70_000])
def test_GIVEN_a_corrupt_snapshot_WHEN_read_THEN_the_default_goes_on(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask, body: str
) -> None:
    running = start(gpu_environ, time.monotonic)
    table.publish("tiny", body, 7, time.time() + 600)
    ask(running, latency_slo_ms=20_000)
    time.sleep(0.3)

    assert ask(running)[0] == 200
    assert running.upkeep.published is None


def test_GIVEN_a_stale_snapshot_or_one_of_another_release_WHEN_deciding_THEN_the_default_is_used(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask
) -> None:
    running = start(gpu_environ, time.monotonic)
    default = running.service._opened().default
    for changes in ({"published_at": time.time() - 999}, {"release": "0" * 16}):
        wrong = replace(
            default, version=7, policy="cpu_only", ttl_s=60.0, **({"published_at": time.time()} | changes)
        )
        running.upkeep.published = wrong

        assert ask(running, latency_slo_ms=20_000)[1]["parameters"]["escalated_items"] == 1


def test_GIVEN_answers_WHEN_a_minute_has_passed_THEN_one_report_holds_them(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask
) -> None:
    running = start(gpu_environ, time.monotonic)
    running.upkeep._reported_at = time.time()
    ask(running, latency_slo_ms=20_000)
    ask(running, [9, 1, 0, 0])
    running.upkeep._reported_at -= 60.0

    ask(running, [9, 1, 0, 0])

    minute = int(time.time() // 60)

    def told() -> Report:
        return merged(table.reports("tiny", minute - 3, minute + 2))[0]

    assert eventually(lambda: told().counts["requests"] == 3)
    report = told()
    assert report.counts["requests"] == 3
    assert report.counts["escalated"] == 1
    assert report.counts["cold"] == 1
    assert {key.split(":")[0] for key in report.sketches} == {"cpu", "gpu"}
    assert report.counts["cost_usd"] > 3e-6


def test_GIVEN_a_sandbox_that_answers_once_WHEN_it_has_THEN_that_is_reported_at_once(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask
) -> None:
    ask(start(gpu_environ, time.monotonic), [9, 1, 0, 0])
    minute = int(time.time() // 60)
    assert eventually(
        lambda: merged(table.reports("tiny", minute - 3, minute + 2))[0].counts["requests"] == 1
    )


def test_GIVEN_a_budget_WHEN_it_is_spent_THEN_429_for_that_caller_only_until_the_window_ends(
    table: StateTable, gpu_environ: dict[str, str], ask: Ask
) -> None:
    gpu_environ["TURNOUT_BUDGET"] = json.dumps({"caller_usd": 2e-5, "window": "day"})
    running = start(gpu_environ, time.monotonic)
    hers = {"authorizer": {"jwt": {"claims": {"sub": "her"}}}}

    answers = [ask(running, [9, 1, 0, 0], context=hers, latency_slo_ms=20_000) for _ in range(40)]

    statuses = [status for status, _ in answers]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert int(answers[-1][1]["headers"]["retry-after"]) > 0
    spent = sum(answer["parameters"]["cost_usd"] for status, answer in answers if status == 200)
    assert spent <= 2e-5 * 1.5
    assert ask(running, [9, 1, 0, 0], headers={"x-api-key": "other"}, latency_slo_ms=20_000)[0] == 200


def test_GIVEN_no_table_WHEN_there_is_a_budget_THEN_a_little_credit_and_then_429(
    gpu_environ: dict[str, str], ask: Ask
) -> None:
    gpu_environ["TURNOUT_BUDGET"] = json.dumps({"usd": 1e-4})
    running = start(gpu_environ, time.monotonic)

    statuses = {ask(running, [9, 1, 0, 0], latency_slo_ms=20_000)[0] for _ in range(30)}

    assert statuses == {200, 429}


def test_GIVEN_an_unreachable_table_WHEN_asked_THEN_answers_go_on(
    gpu_environ: dict[str, str], ask: Ask
) -> None:
    gpu_environ["TURNOUT_TABLE"] = "there-is-no-such-table"
    running = start(gpu_environ, time.monotonic)

    assert all(ask(running, [9, 1, 0, 0])[0] == 200 for _ in range(5))


def test_GIVEN_a_shadow_event_WHEN_handled_THEN_agreement_is_measured_on_the_gpu(
    table: StateTable,
    gpu_environ: dict[str, str],
    ask: Ask,
    endpoint: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = start(gpu_environ, time.monotonic)
    sent: list[dict[str, Any]] = []
    running.upkeep._invoke = sent.append  # type: ignore[method-assign]
    default = running.service._opened().default
    assert default.gpu is not None
    shadowing = replace(
        default, version=1, published_at=time.time(), shadow_share=1.0, ttl_s=600.0, policy="cpu_only"
    )
    running.upkeep.published = replace(shadowing, gpu=replace(default.gpu, ready=0))
    ask(running, [9, 1, 0, 0], latency_slo_ms=20_000)
    running.upkeep.published = replace(shadowing, gpu=replace(default.gpu, ready=1))
    ask(running, [9, 1, 0, 0], latency_slo_ms=20_000)
    assert eventually(lambda: len(sent) == 1)
    endpoint.set("ok")
    capfd.readouterr()

    assert running.answer(json.loads(json.dumps(sent[0])), "id") == {}

    assert EVENT_KEY in sent[0]
    assert endpoint.seen[0]["attributes"].endswith("priority=background")
    assert len(sent) == 1, "none went to the endpoint that was asleep"
    written = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    assert written["ShadowAgreement"] == [0.0], "the CPU says red, the GPU says blue"
    assert written["ShadowDrift"][0] > 0.5
    cost_usd = written["ShadowCost"][0]
    assert cost_usd >= 2e-7, "an invocation's fee at least"
    assert running.service._observer.report.counts["shadow_usd"] == pytest.approx(cost_usd)


def test_GIVEN_an_endpoint_that_fails_WHEN_a_shadow_asks_THEN_its_cost_is_counted_all_the_same(
    table: StateTable,
    gpu_environ: dict[str, str],
    ask: Ask,
    endpoint: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    running = start(gpu_environ, time.monotonic)
    sent: list[dict[str, Any]] = []
    running.upkeep._invoke = sent.append  # type: ignore[method-assign]
    default = running.service._opened().default
    running.upkeep.published = replace(
        default, version=1, published_at=time.time(), shadow_share=1.0, ttl_s=600.0, policy="cpu_only"
    )
    ask(running, [9, 1, 0, 0], latency_slo_ms=20_000)
    assert eventually(lambda: len(sent) == 1)
    endpoint.set("error")
    capfd.readouterr()

    assert running.answer(json.loads(json.dumps(sent[0])), "id") == {}

    written = json.loads(capfd.readouterr().out.strip().splitlines()[-1])
    assert written["ShadowCost"][0] > 0.0
    assert "ShadowAgreement" not in written


def test_GIVEN_an_answer_WHEN_logged_THEN_one_line_with_bounded_dimensions(
    gpu_environ: dict[str, str], ask: Ask, capfd: pytest.CaptureFixture[str]
) -> None:
    running = start(gpu_environ, time.monotonic)
    capfd.readouterr()

    ask(running, [9, 1, 0, 0], headers={"x-api-key": "secret-key"})

    (line,) = capfd.readouterr().out.strip().splitlines()
    written = json.loads(line)
    assert written["message"] == "answered"
    assert written["path"] == "cpu"
    assert written["objective_met"] is True
    assert written["caller"].startswith("key:")
    assert "secret-key" not in line
    (directive,) = written["_aws"]["CloudWatchMetrics"]
    assert sorted(directive["Dimensions"][0]) == ["model", "path", "service"]
    assert {"Latency", "Cost", "ObjectiveMet", "CalibrationError"} <= {
        m["Name"] for m in directive["Metrics"]
    }


def test_GIVEN_a_log_share_of_zero_WHEN_all_is_well_THEN_only_metrics_are_written(
    gpu_environ: dict[str, str], ask: Ask, capfd: pytest.CaptureFixture[str]
) -> None:
    running = start(gpu_environ | {"TURNOUT_LOG_SHARE": "0"}, time.monotonic)
    capfd.readouterr()

    ask(running, [9, 1, 0, 0])

    (line,) = capfd.readouterr().out.strip().splitlines()
    assert "message" not in json.loads(line)


def test_GIVEN_a_first_answer_WHEN_it_is_out_THEN_the_endpoints_client_is_made_for_the_next(
    gpu_environ: dict[str, str], ask: Ask
) -> None:
    running = start(gpu_environ, time.monotonic)

    ask(running, [9, 1, 0, 0])

    gpu = running.service.prepare().gpu
    assert isinstance(gpu, EventualGpu)
    assert eventually(lambda: gpu.warm().done())
    assert running.upkeep.ahead == []
