"""Sandboxes with a real awslambdaric: one call at a time, a pool that grows, faults as Lambda tells them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.local.deployed import Alias, Deployed, Function
from scripts.local.function_host import Pool, Throttled
from scripts.local.runtime_folder import make_runtime_folder
from scripts.local.sandbox import Invocation, Sandbox

HANDLER = """
import os, sys, time

def handler(event, context):
    if event.get("crash"):
        os._exit(3)
    if event.get("raise"):
        raise ValueError("no such thing")
    time.sleep(event.get("sleep_s", 0))
    return {"pid": os.getpid(), "path": sys.path, "left_ms": context.get_remaining_time_in_millis()}
"""


def function(**changed: Any) -> Function:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f:1"
    values: dict[str, Any] = {
        "name": "f", "version": "1", "arn": arn, "handler": "index.handler", "runtime": "python3.11",
        "memory_mb": 128, "timeout_s": 20.0, "environment": {}, "code_url": "", "code_sha256": "",
    }  # fmt: skip
    return Function(**{**values, **changed})


@pytest.fixture
def pool_of(tmp_path: Path) -> Callable[..., Pool]:
    package = tmp_path / "package"
    package.mkdir()
    (package / "index.py").write_text(HANDLER)
    runtime = make_runtime_folder(tmp_path / "runtime")

    def build(max_sandboxes: int = 4, **changed: Any) -> Pool:
        made = function(**changed)

        async def sandbox() -> Sandbox:
            return Sandbox(made, package, runtime, {}, tmp_path / "log")

        return Pool(made, sandbox, max_sandboxes)

    return build


def run(pool: Pool, work: Callable[[], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        try:
            return await work()
        finally:
            await pool.kill()

    return asyncio.run(whole())


def test_a_call_runs_in_a_process_that_sees_its_package_and_the_runtime_only(
    pool_of: Callable[..., Pool],
) -> None:
    pool = pool_of()
    outcome = run(pool, lambda: pool.invoke(b"{}", "id"))
    answer = json.loads(outcome.payload)
    assert outcome.error is None
    assert outcome.init_ms is not None
    assert outcome.init_ms > 0
    assert answer["left_ms"] > 0
    assert not [entry for entry in answer["path"] if "site-packages" in entry]


def test_a_warm_sandbox_is_used_again_a_busy_one_is_not_and_more_calls_than_allowed_are_throttled(
    pool_of: Callable[..., Pool],
) -> None:
    pool = pool_of(max_sandboxes=2, concurrency=3)

    async def work() -> tuple[set[int], set[int]]:
        one = {json.loads((await pool.invoke(b"{}", "a")).payload)["pid"] for _ in range(3)}
        calls = [pool.invoke(b'{"sleep_s": 0.3}', str(n)) for n in range(6)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(answer, Throttled) for answer in answers] == [False] * 3 + [True] * 3
        many = {json.loads(answer.payload)["pid"] for answer in answers if isinstance(answer, Invocation)}
        assert not (await pool.invoke(b"{}", "after")).error
        return one, many

    one, many = run(pool, work)
    assert len(one) == 1
    assert one < many
    assert len(many) == 2


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b'{"raise": 1}', "ValueError"),
        (b'{"crash": 1}', "Runtime.ExitError"),
        (b'{"sleep_s": 9}', "Sandbox.Timedout"),
    ],
)
def test_faults_are_told_as_lambda_tells_them_and_the_next_call_works(
    pool_of: Callable[..., Pool], event: bytes, kind: str
) -> None:
    pool = pool_of(timeout_s=1.5)

    async def work() -> tuple[Any, Any]:
        return await pool.invoke(event, "a"), await pool.invoke(b"{}", "b")

    failed, after = run(pool, work)
    assert failed.error == "Unhandled"
    assert json.loads(failed.payload)["errorType"] == kind
    assert after.error is None


def test_a_failed_init_is_the_answer_of_the_call_that_needed_it(pool_of: Callable[..., Pool]) -> None:
    pool = pool_of(handler="nowhere.handler")
    outcome = run(pool, lambda: pool.invoke(b"{}", "a"))
    assert outcome.error == "Unhandled"
    assert json.loads(outcome.payload)["errorType"] == "Runtime.ImportModuleError"
    assert pool.size == 0


def test_an_alias_splits_calls_by_its_weights() -> None:
    functions = {("f", version): function(version=version) for version in ("1", "2")}
    deployed = Deployed(functions, {("f", "live"): Alias("1", {"2": 0.1})}, (), (), ())
    reached = [deployed.resolve("f", "live", draw / 100) for draw in range(100)]
    assert [found.version for found in reached if found].count("2") == 10
    assert deployed.resolve("f", "gone", 0.0) is None
