"""The slot-level study: the capacity rule on counts per slot, without queues and cold starts.

Quick enough for sweeps, and the model in which the clairvoyant bound is exact. The rule is
`handlers.routing.capacity.step` itself; only the bill is worked out here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from handlers.routing.capacity import (
    CapacityEconomics,
    CapacityObservation,
    CapacityState,
    step,
)

from .optimum import SlotPrices, slot_costs

LOOKAHEAD_THRESHOLDS = (0.1, 0.25, 0.5, 1.0)


def rule_usd(
    counts: NDArray[np.float64],
    slot_s: float,
    prices: SlotPrices,
    economics: CapacityEconomics,
    *,
    delay_s: float,
    tick_slots: int = 1,
) -> float:
    """What the rule pays when it steps every `tick_slots` slots and an instance takes `delay_s` to start.

    With `delay_s` 0 it is the rule with the start-up time as lookahead: what it orders is there when wanted.
    """
    costs = np.vstack(list(_costs(counts, slot_s, prices, economics.max_instances)))
    state, total = CapacityState(), 0.0
    ready, starting = economics.min_instances, list[float]()
    total += ready * prices.startup
    for begin in range(0, len(counts), tick_slots):
        end = min(begin + tick_slots, len(counts))
        for slot in range(begin, end):
            while starting and starting[0] <= slot * slot_s + 1e-9:
                starting.pop(0)
                ready += 1
            total += float(costs[slot, ready])
        observation = CapacityObservation(
            (end - begin) * slot_s, counts[begin:end].tolist(), ready, len(starting), prices.share
        )
        state, action = step(state, observation, economics)
        more = action.target - ready - len(starting)
        if more > 0:
            starting += [end * slot_s + delay_s] * more
            total += more * prices.startup
        for _ in range(-more):
            if starting:
                starting.pop()
            else:
                ready -= 1
    return total


def _costs(
    counts: NDArray[np.float64], slot_s: float, prices: SlotPrices, most: int
) -> Iterator[NDArray[np.float64]]:
    for begin in range(0, len(counts), 4096):
        yield slot_costs(counts[begin : begin + 4096], slot_s, prices, most)
