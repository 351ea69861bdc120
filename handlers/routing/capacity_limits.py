"""What a capacity action may do at most, whoever asks for it: the same for the control loop and the planner.

A large step is what two minutes in a row wanted, so that one wrong minute moves no fleet; it is then taken
whole, since an order of a few keeps the endpoint as busy as one of many. Orders are rationed, so that nothing
flaps; what is given back is not. And an endpoint takes one change at a time: SageMaker refuses another until
the first is done, which after an order is when its instances have started.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_STEP = 8
MAX_ORDERS_PER_HOUR = 12


def bounded(target: int, asked: int | None, current: int) -> int:
    """Return the size to go to when `target` is wanted now and `asked` was a minute before (None: unknown).

    Up to `MAX_STEP` away at once; further only as far as both minutes say, and until then not at all.
    """
    if abs(target - current) <= MAX_STEP:
        return target
    before = current if asked is None else asked
    return max(current, min(target, before)) if target > current else min(current, max(target, before))


def refusal(target: int, current: int, steady: bool, orders: Sequence[float], now: float) -> str:
    """Say why the size cannot be changed now, empty if it can; `orders` are the epoch s of the last ones."""
    if not steady:
        return f"{current} to {target} instances: waits for the endpoint's own update"
    recent = len(within_hour(orders, now))
    if target > current and recent >= MAX_ORDERS_PER_HOUR:
        return f"rationed: {recent} orders of instances in the last hour"
    return ""


def within_hour(orders: Sequence[float], now: float) -> tuple[float, ...]:
    """Return those of the last hour."""
    return tuple(at for at in orders if now - at < 3600.0)
