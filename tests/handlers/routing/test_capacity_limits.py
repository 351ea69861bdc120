"""Given a wanted size, when it may be acted on, then by bounded steps, not too often, one at a time."""

from __future__ import annotations

import pytest

from handlers.routing.capacity_limits import MAX_ORDERS_PER_HOUR, MAX_STEP, bounded, refusal, within_hour


@pytest.mark.parametrize(
    ("target", "asked", "current", "expected"),
    [
        (MAX_STEP, None, 0, MAX_STEP),
        (100, None, 0, 0),
        (100, 0, 0, 0),
        (100, 60, 0, 60),
        (60, 100, 0, 60),
        (100, 20, 30, 30),
        (0, None, 100, 100),
        (0, 40, 100, 40),
        (0, 120, 100, 100),
        (2, 5, 2, 2),
    ],
)
def test_a_large_step_is_what_two_minutes_wanted(
    target: int, asked: int | None, current: int, expected: int
) -> None:
    assert bounded(target, asked, current) == expected


def test_orders_are_rationed_by_the_hour_and_giving_back_is_not() -> None:
    orders = [float(60 * i) for i in range(MAX_ORDERS_PER_HOUR)]
    assert "rationed" in refusal(2, 1, True, orders, 3599.0)
    assert not refusal(1, 2, True, orders, 3599.0)
    assert not refusal(2, 1, True, orders, 3600.0)
    assert within_hour(orders, 3600.0) == tuple(orders[1:])


def test_an_endpoint_takes_one_change_at_a_time() -> None:
    assert "1 to 2 instances" in refusal(2, 1, False, (), 0.0)
