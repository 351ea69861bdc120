"""The fault matrix: every fault of the endpoint, on every path, under every load, in the deployed function.

Each cell runs in fresh sandboxes, so that one fault's open breaker does not shield the next. Their first two
requests meet the fault before a client for the endpoint is there, the others once it has been called. The
objective is measured at the handler (`actual_ms`), as the promise is made there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scripts.bench.fault_endpoint import FAULTS, FaultEndpoint
from scripts.bench.hosted import Bench, as_coroutine, event
from scripts.local.function_host import Pool

PATHS: dict[str, dict[str, Any]] = {
    "cpu": {"path": "cpu"},
    "gpu": {"path": "gpu"},
    "escalates": {"min_confidence": 0.99999999},
}
WARM = {"path": "gpu", "latency_slo_ms": 20_000}
"""Waits until the endpoint's client is made and has called; it is not counted."""
FIRST = 2
MARGIN_MS = 5.0
"""How far past its objective an answer may leave the handler."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One path under one fault and load (callers at once): counts of requests, USD for all of them."""

    path: str
    fault: str
    load: int
    requests: int
    answered: int
    within_objective: int
    degraded: int
    failed: int
    cost_usd: float


async def matrix(
    bench: Bench, model: str, inputs: list[dict[str, Any]], sound_url: str, loads: Sequence[int], calls: int,
    slo_ms: float, say: Callable[[str], None],
) -> list[Cell]:  # fmt: skip
    """Every cell, one after the other."""
    endpoint = FaultEndpoint(sound_url)
    url = await endpoint.open()
    faulty = replace(bench, environment={**bench.environment, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url})
    warm = event(model, inputs, WARM)
    cells = []
    try:
        for fault in ("none", *FAULTS):
            for path, parameters in PATHS.items():
                asked = event(model, inputs, {**parameters, "latency_slo_ms": slo_ms})
                for load in loads:
                    endpoint.mode = "none"
                    answers = await under_load(faulty, (warm, asked), load, calls, endpoint, fault)
                    cells.append(count(path, fault, load, slo_ms, answers))
            say(f"{fault}: done")
    finally:
        await endpoint.close()
    return cells


async def under_load(
    bench: Bench, events: tuple[bytes, bytes], load: int, calls: int, endpoint: FaultEndpoint, fault: str
) -> list[bytes]:
    """`calls` answers with `load` callers at once, a sandbox each; the first `FIRST` without a client."""
    warm, asked = events
    pool = Pool(bench.function, as_coroutine(bench.sandbox), load)

    async def callers(count_: int) -> list[bytes]:
        async def one() -> list[bytes]:
            return [(await pool.invoke(asked, "fault")).payload for _ in range(count_)]

        return [
            payload for answers in await asyncio.gather(*(one() for _ in range(load))) for payload in answers
        ]

    try:
        endpoint.mode = fault
        cold = await callers(FIRST)
        endpoint.mode = "none"
        await asyncio.gather(*(pool.invoke(warm, "warm") for _ in range(load)))
        endpoint.mode = fault
        return cold + await callers(max(1, calls // load - FIRST))
    finally:
        await pool.kill()


def count(path: str, fault: str, load: int, slo_ms: float, payloads: Sequence[bytes]) -> Cell:
    """Pure: what the answers say."""
    told = [parameters for payload in payloads if (parameters := served(payload)) is not None]
    return Cell(
        path, fault, load, len(payloads), len(told),
        sum(found["actual_ms"] <= slo_ms + MARGIN_MS for found in told),
        sum(bool(found["degraded"]) for found in told),
        len(payloads) - len(told),
        sum(found["cost_usd"] for found in told),
    )  # fmt: skip


def served(payload: bytes) -> Mapping[str, Any] | None:
    """The parameters of a 200 answer, else None."""
    answer = json.loads(payload)
    if answer.get("statusCode") != 200:
        return None
    found: dict[str, Any] = json.loads(answer["body"])["parameters"]
    return found
