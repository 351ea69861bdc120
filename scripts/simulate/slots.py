"""The slot-level study: the capacity rule on counts per slot, without queues and cold starts.

Quick, and the model of the published studies. In a slot with n instances each request takes the cheapest way
there is; instances cost rent, and each start its start-up price. The rule is `handlers.routing.capacity.step`
itself; only the bill is worked out here. What holds for a replay is in `relaxed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handlers.routing.capacity import (
    CapacityEconomics,
    CapacityObservation,
    CapacityState,
    step,
)
from handlers.routing.capacity_prices import path_prices
from handlers.routing.snapshot import Topology

from .optimum import Costs
from .relaxed import wait_segments
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class SlotPrices:
    """What the slot model charges, USD.

    `cpu_asleep` and `cpu_awake`: a request on the CPU while there is no instance, or one. `gpu_fees`: a
    request on the GPU without its wait; `segments` are (requests/s, USD of the wait per request) of one
    instance, cheapest first. `missed` for each request that needed the GPU's answer and did not get it.
    """

    cpu_asleep: float
    cpu_awake: float
    gpu_fees: float
    segments: tuple[tuple[float, float], ...]
    missed: float
    share: float
    rent_per_s: float
    startup: float

    @property
    def rate_rps(self) -> float:
        """The most requests/s of one instance."""
        return sum(width for width, _ in self.segments)


def bound_prices(scenario: Scenario) -> SlotPrices:
    """The prices of the clairvoyant bound: CPU answers colocated, GPU answers waited for in the front."""
    return slot_prices(scenario, Topology.COLOCATED, Topology.COLOCATED, scenario.economics.front_memory_mb)


def slot_prices(scenario: Scenario, asleep: Topology, awake: Topology, waiting_mb: float) -> SlotPrices:
    """The prices when CPU answers run as given, and GPU answers are waited for in so much memory."""
    economics, profile = scenario.economics, scenario.profile
    fees = economics.front_door_request + economics.lambda_request
    gpu = profile.gpu
    segments: tuple[tuple[float, float], ...] = ()
    if gpu is not None:
        batches = {size: ms for size, ms in gpu.batch_ms.items() if size <= gpu.max_batch}
        second = economics.lambda_usd(1000.0, waiting_mb)
        segments = tuple((width, wait_s * second) for width, wait_s in wait_segments(batches))
    return SlotPrices(
        cpu_asleep=path_prices(profile, economics, asleep).cpu_usd,
        cpu_awake=path_prices(profile, economics, awake).cpu_usd,
        gpu_fees=fees + economics.lambda_usd(profile.network.mean_ms(), waiting_mb),
        segments=segments,
        missed=economics.missed_escalation_usd,
        share=scenario.escalation_share,
        rent_per_s=economics.gpu_second_usd(),
        startup=scenario.start_usd,
    )


def slot_costs(arrivals: NDArray[np.float64], slot_s: float, prices: SlotPrices, most: int) -> Costs:
    """USD of each slot by instance count, rent included: shape [slots, most + 1]."""
    sizes = np.arange(most + 1, dtype=np.float64)[None, :]
    total = arrivals[:, None]
    cpu = np.where(sizes > 0, prices.cpu_awake, prices.cpu_asleep)
    costs = total * (cpu + prices.share * prices.missed) + sizes * prices.rent_per_s * slot_s
    left = [total * prices.share + 0.0 * sizes, total * (1.0 - prices.share) + 0.0 * sizes]
    gains = (cpu + prices.missed - prices.gpu_fees, cpu - prices.gpu_fees)
    for width, wait_usd in prices.segments:
        room = sizes * width * slot_s
        for kind in (0, 1):
            gain = np.maximum(gains[kind] - wait_usd, 0.0)
            taken = np.where(gain > 0, np.minimum(room, left[kind]), 0.0)
            costs = costs - taken * gain
            room = room - taken
            left[kind] = left[kind] - taken
    return costs


def size_needed(arrivals: NDArray[np.float64], slot_s: float, prices: SlotPrices, limit: int) -> int:
    """The most instances that could ever be of use."""
    if prices.rate_rps <= 0.0:
        return 0
    return int(min(limit, np.ceil(arrivals.max() / (slot_s * prices.rate_rps))))


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

    With `delay_s` 0 what it orders is there when wanted.
    """
    costs = slot_costs(counts, slot_s, prices, economics.max_instances)
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
