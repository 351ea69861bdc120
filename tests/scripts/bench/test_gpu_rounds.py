"""Rounds of load: shares of the capacity that was just found, and medians over them."""

from __future__ import annotations

import os
from typing import Any

from scripts.bench.gpu_rounds import medians, one_round


def test_each_round_loads_by_its_own_capacity() -> None:
    """Given a machine that slows down between rounds, then the shares are of what it can do now."""
    asked: list[tuple[float, float]] = []

    def fire(rate: float, deadline_ms: float) -> dict[str, Any]:
        asked.append((rate, deadline_ms))
        slow = len(asked) > 4
        return {
            "answered_per_s": 500.0 if slow else 1000.0,
            "goodput_per_s": 450.0 if slow else 900.0,
            "answered": 100,
            "generator_cpu_share": 0.1,
            "statuses": {"200": 90, "504": 2},
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "refused": 8,
            "refusal_p50_ms": 0.5,
            "refusal_p99_ms": None,
            "send_lag_p99_ms": 0.1,
            "given_up": 5,
        }

    speeds = iter([2000.0, 3000.0, 600.0, 400.0])
    rows = [one_round(os.getpid(), fire, (0.5, 0.8), 20.0, lambda: next(speeds)) for _ in range(2)]
    assert [row["of_raw"] for row in rows] == [0.4, 1.0]
    assert asked == [(0, 0), (500, 0), (800, 0), (1500, 20), (0, 0), (250, 0), (400, 0), (750, 20)]
    assert [row["overload"]["goodput_share"] for row in rows] == [0.9, 0.9]
    assert rows[0]["overload"] | {"own_mib_before": 0, "own_mib": 0} == {
        "deadline_ms": 20.0,
        "goodput_share": 0.9,
        "refused": 8,
        "refusal_p50_ms": 0.5,
        "refusal_p99_ms": 0.0,
        "given_up": 5,
        "dropped": 2,
        "send_lag_p99_ms": 0.1,
        "generator_cpu_share": 0.1,
        "own_mib_before": 0,
        "own_mib": 0,
    }


def test_the_median_round_is_number_by_number() -> None:
    rounds = [
        {"capacity_per_s": rate, "statuses": {"200": 1}, "overload": {"goodput_share": share}}
        for rate, share in ((3.0, 0.2), (1.0, 0.9), (2.0, 0.4))
    ]
    assert medians(rounds) == {
        "capacity_per_s": 2.0,
        "statuses": {"200": 1},
        "overload": {"goodput_share": 0.4},
    }
