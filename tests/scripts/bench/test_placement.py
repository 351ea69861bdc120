"""A placement holds for what is timed, and for nothing after it."""

from __future__ import annotations

import os

import pytest

from scripts.bench.placement import placed, placements

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are Linux's to choose")


def test_GIVEN_this_machine_WHEN_asked_THEN_one_core_comes_first() -> None:
    first, *others = placements()

    assert first.name == "one core"
    assert first.turns
    assert first.caller == first.functions
    assert len(first.caller) == 1
    assert others[-1].name == "free"
    assert not others[-1].caller


def test_GIVEN_a_placement_WHEN_it_ends_THEN_all_is_as_before() -> None:
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)

    for placement in placements():
        with placed(placement.functions, turns=placement.turns):
            assert os.sched_getaffinity(0) == placement.functions or not placement.functions
            assert os.sched_getscheduler(0) == (os.SCHED_BATCH if placement.turns else before[1])

    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before
