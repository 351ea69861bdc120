"""Given a wanted size, when it may be acted on, then by bounded steps, not too often, one at a time."""

from __future__ import annotations

import pytest

from handlers.routing.capacity_limits import MAX_ACTIONS_PER_HOUR, MAX_STEP, bounded, refusal, within_hour


@pytest.mark.parametrize(
    ("target", "current", "expected"), [(100, 0, MAX_STEP), (0, 100, 100 - MAX_STEP), (3, 2, 3), (2, 2, 2)]
)
def test_a_step_is_bounded_both_ways(target: int, current: int, expected: int) -> None:
    assert bounded(target, current) == expected


def test_actions_are_rationed_by_the_hour() -> None:
    actions = [float(60 * i) for i in range(MAX_ACTIONS_PER_HOUR)]
    assert "rationed" in refusal(2, 1, True, actions, 3599.0)
    assert not refusal(2, 1, True, actions, 3600.0)
    assert within_hour(actions, 3600.0) == tuple(actions[1:])


def test_an_endpoint_takes_one_change_at_a_time() -> None:
    assert "1 to 2 instances" in refusal(2, 1, False, (), 0.0)
