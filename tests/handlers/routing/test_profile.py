"""A profile says what the cpu variant takes in a function of any size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import InvalidInput
from handlers.routing.types import Economics, Profile, Snapshot

from .builders import MEDIUM, PRICES

TABLE = [
    {"memory_mb": 512, "p50": 40.0, "p95": 60.0, "p99": 80.0, "init_ms": 900.0},
    {"memory_mb": 1024, "p50": 20.0, "p95": 30.0, "p99": 40.0, "init_ms": 450.0},
    {"memory_mb": 1769, "p50": 10.0, "p95": 11.0, "p99": 12.0, "init_ms": 250.0},
]
CPU: dict[str, Any] = {
    "memory_mb": 512,
    "service_ms": {"p50": 40.0, "p95": 60.0, "p99": 80.0},
    "batch_ms": {"1": 40.0, "4": 120.0},
    "init_ms": 900.0,
    "memory_table": TABLE,
}


def profile(**changes: Any) -> Profile:
    return Profile.parse({**MEDIUM, "cpu": {**CPU, **changes}})


def test_a_size_that_was_measured_is_taken_whole():
    found = profile().at(1769).cpu
    assert (found.memory_mb, found.service.at(0.5), found.init_ms) == (1769, 10.0, 250.0)
    assert found.service.at(0.99) == pytest.approx(12.0)
    # And batches by as much as one item
    assert found.batch_ms == {1: 10.0, 4: 30.0}


@pytest.mark.parametrize(("memory_mb", "p50"), [(1500, 20.0), (3008, 10.0), (10240, 10.0), (256, 80.0)])
def test_between_sizes_the_smaller_holds_and_below_all_the_share_of_a_cpu(memory_mb: int, p50: float):
    assert profile().at(memory_mb).cpu.service.at(0.5) == pytest.approx(p50)


def test_a_profile_of_one_size_is_no_faster_above_it_and_slower_below_one_vcpu():
    lone = Profile.parse(MEDIUM)  # 300 ms at 3072 MB
    assert lone.at(3072) == lone
    assert [lone.at(mb).cpu.service.at(0.5) for mb in (10240, 1769)] == [300.0, 300.0]
    assert lone.at(884).cpu.init_ms == pytest.approx(1200 * 1769 / 884)


def test_the_default_snapshot_predicts_for_the_memory_that_the_function_has():
    economics = Economics.parse({**PRICES, "model_memory_mb": 1769})
    slow = Snapshot.from_profile(profile(), economics).latencies.cpu.curve(1).at(0.99)
    there = Snapshot.from_profile(profile().at(1769), economics).latencies.cpu.curve(1).at(0.99)
    assert (slow, there) == (pytest.approx(80.0), pytest.approx(12.0))


@given(st.integers(128, 10240), st.integers(128, 10240))
def test_more_memory_is_never_slower(one: int, other: int):
    low, high = sorted((one, other))
    small, large = profile().at(low).cpu, profile().at(high).cpu
    assert small.service.at(0.99) >= large.service.at(0.99)
    assert small.init_ms >= large.init_ms


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("many", "cpu.memory_table"),
        ([3], "cpu.memory_table"),
        ([{**TABLE[0], "memory_mb": 64}], "cpu.memory_table.memory_mb"),
        ([{**TABLE[0], "init_ms": None}], "cpu.memory_table.init_ms"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(table: Any, field: str):
    with pytest.raises(InvalidInput, match=field):
        profile(memory_table=table)
