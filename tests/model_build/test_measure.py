"""Measure: a fair race, and the load level that is worth its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_build.candidate import Candidate, LoadOptimisation
from model_build.latency import Latency, Timing
from model_build.measure import best_level, race


def candidate(name: str) -> Candidate:
    return Candidate(name, "net", "fp32", "", "fp32", 0.0, Path(name), 1000, {})


def latency(p50: float, session_ms: float = 5.0) -> Latency:
    return Latency(50.0, session_ms, 1.0, 60.0, {1: Timing(p50, p50, p50, p50, 30)})


def test_runs_in_turns_and_drops_those_far_behind_after_one_round() -> None:
    # Given one candidate that takes twice as long as the other two
    order: list[str] = []

    def timer(entry: Candidate, level: LoadOptimisation) -> Latency:
        if level == "off":
            order.append(entry.name)
        return latency({"a": 1.0, "b": 1.1, "slow": 2.0}[entry.name])

    # When they race
    times = race([candidate("a"), candidate("slow"), candidate("b")], timer)
    # Then the rounds alternate, the slow one is timed once and still has its numbers
    assert order == ["a", "slow", "b", "a", "b", "a", "b"]
    assert len(times["slow", "off"]) == 1
    assert len(times["a", "all"]) == 3


@pytest.mark.parametrize(
    ("off", "whole", "level"), [(1.0, 1.0, "off"), (1.0, 0.98, "off"), (1.0, 0.9, "all"), (1.0, 1.1, "off")]
)
def test_a_higher_level_must_pay_for_itself(off: float, whole: float, level: str) -> None:
    runs: dict[LoadOptimisation, list[Latency]] = {"off": [latency(off)], "all": [latency(whole)]}
    assert best_level(runs)[0] == level


def test_the_best_round_counts() -> None:
    runs: dict[LoadOptimisation, list[Latency]] = {
        "off": [latency(3.0, 9.0), latency(1.0, 4.0)], "all": [latency(2.0)]
    }  # fmt: skip
    assert best_level(runs) == ("off", 1.0, 4.0)
