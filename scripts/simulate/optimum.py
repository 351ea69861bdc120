"""The clairvoyant optimum: the least that anybody could pay who knows the trace.

Time is cut into slots. In a slot with n instances each request takes the cheapest way there is, in the
topology that suits its path; instances cost rent, and each start its start-up price. The dynamic programme
over instance counts is exact: the cost to be at n after a slot depends on the past only through the size
before it. It is a lower bound for every policy under the same slot model: no queueing, no cold start.

An instance serves r requests/s at the least wait that allows r: batches of one while they suffice, larger
ones beyond. In-flight requests are rate × wait (Little), so for batches of b that is b of them at
b / batch_ms(b), and the least in-flight for a rate is the lower convex hull of those points: a few segments,
each with a width (requests/s) and a wait (s per request) that fill in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidInput
from handlers.routing.capacity_prices import path_prices
from handlers.routing.snapshot import Topology

from .scenario import Scenario

Costs = NDArray[np.float64]
CHUNK = 4096


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
        startup=start_usd(scenario),
    )


def start_usd(scenario: Scenario) -> float:
    """What one start of an instance costs, USD: its rent until it is ready, where that is billed."""
    gpu = scenario.profile.gpu
    if gpu is None or not gpu.startup_billed:
        return 0.0
    return scenario.economics.gpu_second_usd() * gpu.startup_s


def wait_segments(batch_ms: dict[int, float]) -> tuple[tuple[float, float], ...]:
    """The (requests/s, seconds of wait per request) segments of one instance, from the hull."""
    points = sorted({(1000.0 * size / ms, float(size)) for size, ms in batch_ms.items()} | {(0.0, 0.0)})
    hull: list[tuple[float, float]] = []
    for rate, inflight in points:
        while hull and hull[-1][1] >= inflight:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (rate, inflight)):
            hull.pop()
        if not hull or rate > hull[-1][0]:
            hull.append((rate, inflight))
    return tuple((right[0] - left[0], _slope(left, right)) for left, right in pairwise(hull))


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    rise = right[1] - left[1]
    return rise / (right[0] - left[0]) if right[0] > left[0] else float("inf")


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


def clairvoyant_usd(
    arrivals: NDArray[np.float64], slot_s: float, prices: SlotPrices, most: int
) -> tuple[float, NDArray[np.int64]]:
    """The optimum in USD and the instance count it holds in each slot, starting with none.

    Starting before the first slot is allowed: whoever knows the future orders in time.
    """
    if len(arrivals) == 0:
        raise InvalidInput("arrivals", "none", "at least one slot")
    ramp: Costs = np.arange(most + 1, dtype=np.float64) * prices.startup
    work: Costs = ramp.copy()
    came = np.empty((len(arrivals), most + 1), dtype=np.int32)
    size = np.arange(most + 1)
    at = 0
    for chunk in _chunks(arrivals, slot_s, prices, most):
        for row in chunk:
            came[at] = size if at else 0
            if at:
                work, came[at] = _reach(work, ramp, size)
            work = work + row
            at += 1
    path = np.empty(len(arrivals), dtype=np.int64)
    path[-1] = int(work.argmin())
    for slot in range(len(arrivals) - 1, 0, -1):
        path[slot - 1] = came[slot, path[slot]]
    return float(work.min()), path


def _reach(work: Costs, ramp: Costs, size: NDArray[np.int64]) -> tuple[Costs, NDArray[np.int32]]:
    """The cheapest way to each size, and from which: going down is free, going up costs the ramp."""
    down = np.minimum.accumulate(work[::-1])[::-1]
    source = len(work) - 1 - np.maximum.accumulate(np.where(work[::-1] == down[::-1], size, -1))[::-1]
    based = down - ramp
    best = np.minimum.accumulate(based)
    step = np.maximum.accumulate(np.where(based == best, size, -1))
    return best + ramp, source[step].astype(np.int32)


def _chunks(arrivals: NDArray[np.float64], slot_s: float, prices: SlotPrices, most: int) -> Iterator[Costs]:
    for start in range(0, len(arrivals), CHUNK):
        yield slot_costs(arrivals[start : start + CHUNK], slot_s, prices, most)
