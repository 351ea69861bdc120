"""What a capacity action may do at most, whoever asks for it: the same for the control loop and the planner.

A step is bounded, so that one wrong minute orders no fleet; actions are rationed, so that nothing flaps;
and an endpoint takes one change at a time: SageMaker refuses another until the first is done, which after an
order is when its instances have started.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_STEP = 8
MAX_ACTIONS_PER_HOUR = 12


def bounded(target: int, current: int) -> int:
    """Return the size nearest to `target` that one action may go to."""
    return current + max(-MAX_STEP, min(MAX_STEP, target - current))


def refusal(target: int, current: int, steady: bool, actions: Sequence[float], now: float) -> str:
    """Say why the size cannot be changed now, empty if it can; `actions` are the epoch s of the last ones."""
    if not steady:
        return f"{current} to {target} instances: waits for the endpoint's own update"
    recent = len(within_hour(actions, now))
    if recent >= MAX_ACTIONS_PER_HOUR:
        return f"rationed: {recent} capacity actions in the last hour"
    return ""


def within_hour(actions: Sequence[float], now: float) -> tuple[float, ...]:
    """Return those of the last hour."""
    return tuple(at for at in actions if now - at < 3600.0)
