"""How the fault matrix counts answers."""

from __future__ import annotations

import json

from scripts.bench.faults import count


def payload(actual_ms: float, *, degraded: bool = False, status: int = 200) -> bytes:
    body = json.dumps({"parameters": {"actual_ms": actual_ms, "degraded": degraded, "cost_usd": 1e-6}})
    return json.dumps({"statusCode": status, "body": body}).encode()


def test_a_cell_tells_answered_in_time_degraded_and_failed_apart() -> None:
    answers = [
        payload(10),
        payload(304, degraded=True),
        payload(306),
        payload(1, status=503),
        b'{"errorType": "x"}',
    ]
    cell = count("gpu", "hangs", 1, 300, answers)
    assert (cell.requests, cell.answered, cell.within_objective, cell.degraded, cell.failed) == (
        5,
        3,
        2,
        1,
        2,
    )
    assert cell.cost_usd == 3e-6
