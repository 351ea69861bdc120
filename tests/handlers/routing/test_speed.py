"""A decision costs a stated multiple of something known, on any machine and under any load."""

from __future__ import annotations

import time
from collections.abc import Callable

from handlers.routing.policy import decide
from handlers.routing.types import Local, Topology

from .builders import CASCADE, request, snapshot

BUDGET = 12.0


def _least_us(work: Callable[[], object], repeats: int = 40, calls: int = 100) -> float:
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        for _ in range(calls):
            work()
        times.append((time.thread_time() - began) / calls * 1e6)
    return min(times)


def test_a_decision_costs_little_more_than_adding_up_three_hundred_numbers() -> None:
    full = snapshot(CASCADE, gpu_ready=2, topology=Topology.SPLIT)
    asked, local = request(min_confidence=0.9, payload_bytes=10_000), Local(gpu_in_flight=20.0)
    reference = _least_us(lambda: sum(range(300)))
    assert _least_us(lambda: decide(asked, full, local, 0.0)) < BUDGET * reference
