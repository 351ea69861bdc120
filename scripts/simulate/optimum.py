"""The exact clairvoyant optimum over instance counts, given what each count would cost in each slot.

A dynamic programme: the cost to be at n after a slot depends on the past only through the size before it.
What a slot costs is worked out elsewhere: `relaxed` for the bound that holds for the replay, `slots` for the
plain study of counts per slot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidInput
from handlers.routing.capacity import charge, decide_size, relax

Costs = NDArray[np.float64]
Sizes = NDArray[np.int64]


def clairvoyant_usd(
    costs: Costs, start_usd: float, stayed: Costs | None = None, not_before: int = 0
) -> tuple[float, Sizes]:
    """The least USD for the whole, and the instance count held in each slot.

    `costs` are USD by slot and count, shape [slots, most + 1], or only of a slot whose count is new where
    `stayed` has those of one whose count is not. Each instance more than in the slot before costs
    `start_usd`, one less costs nothing. Whoever knows the future orders before the first slot; with
    `not_before` nothing is ready in the first so many slots.
    """
    if len(costs) == 0:
        raise InvalidInput("arrivals", "none", "at least one slot")
    size = np.arange(costs.shape[1])
    # From the size by row to the size by column.
    ramp = start_usd * np.maximum(size[None, :] - size[:, None], 0)
    work: Costs = ramp[0] + costs[0]
    if not_before:
        work[1:] = np.inf
    came = np.empty(costs.shape, dtype=np.int32)
    for at in range(1, len(costs)):
        reached = work[:, None] + ramp + costs[at]
        if stayed is not None:
            reached[size, size] = work + stayed[at]
        came[at] = reached.argmin(axis=0)
        work = reached.min(axis=0)
        if at < not_before:
            work[1:] = np.inf
    path = np.empty(len(costs), dtype=np.int64)
    path[-1] = int(work.argmin())
    for slot in range(len(costs) - 1, 0, -1):
        path[slot - 1] = came[slot, path[slot]]
    return float(work.min()), path


def rule_on(costs: Costs, start_usd: float, threshold: float) -> float:
    """What break-even at α = `threshold` pays where every instance is there the moment it is ordered.

    That is the rule with as much foresight as a start takes: what it orders on what it sees is ready then.
    """
    size, total, last = 0, 0.0, costs.shape[1] - 1
    work: list[float] = []
    price = threshold * max(start_usd, 0.0)
    for row in costs.tolist():
        total += row[size]
        charged = charge(work, row, price, size)
        target = decide_size(charged, price, size, 0, last).target
        total += start_usd * max(target - size, 0)
        work, size = relax(charged, price, 0), target
    return total
