"""The designs that a plan compares: turnout's three topologies and what people do otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidInput
from handlers.routing.capacity import CapacityEconomics
from handlers.routing.capacity_prices import capacity_economics
from handlers.routing.snapshot import Topology

from .design import Design
from .relaxed import TICK_S
from .scaling import ByEconomics, Fixed, Mark, Scheduled, TargetTracking
from .scenario import Scenario
from .slots import SlotPrices, slot_costs, slot_prices

NAMES = (
    "turnout",
    "turnout_colocated",
    "turnout_split",
    "all_cpu",
    "all_gpu",
    "best_fixed",
    "target_tracking",
    "mark",
    "break_even",
    "clairvoyant",
)


def chosen(policies: str) -> tuple[str, ...]:
    """The names in a comma-separated list; `all` for every one."""
    if policies == "all":
        return NAMES
    names = tuple(dict.fromkeys(name.strip() for name in policies.split(",") if name.strip()))
    for name in names:
        if name not in NAMES:
            raise InvalidInput("--policies", name, "all, or some of " + ", ".join(NAMES))
    return names


def design(
    name: str, scenario: Scenario, counts: NDArray[np.float64], sizes: Sequence[int] | None = None
) -> Design:
    """The design of that name for a trace's counts per second.

    `sizes` is what only hindsight knows: the count of `best_fixed`, the schedule per tick of `clairvoyant`.
    """
    if name == "all_cpu" or not scenario.has_gpu:
        return Design(name, "cpu_only", Topology.COLOCATED, lambda: Fixed(0))
    rate_rps = _economics(scenario, None, 1.0).capacity_rps
    most = min(scenario.max_instances, int(np.ceil(counts.max() / rate_rps)) + 1)
    topologies = {"turnout_colocated": Topology.COLOCATED, "turnout_split": Topology.SPLIT}
    if name.startswith("turnout"):
        topology = topologies.get(name)
        economics = _economics(scenario, topology, None, most)
        return Design(name, "turnout", topology, lambda: ByEconomics(economics))
    if name == "break_even":
        plain = _economics(scenario, None, 1.0, most)
        return Design(name, "turnout", None, lambda: ByEconomics(plain), cascade=False)
    if name == "all_gpu":
        peak = min(scenario.max_instances, max(1, int(np.ceil(counts.max() / rate_rps))))
        return Design(name, "gpu_only", Topology.SPLIT, lambda: Fixed(peak))
    if name == "best_fixed":
        count = best_fixed(scenario, counts) if sizes is None else sizes[0]
        return Design(name, "turnout", None, lambda: Fixed(count))
    if name == "target_tracking":
        return Design(name, "turnout", None, lambda: TargetTracking(rate_rps / 0.9, scenario.max_instances))
    if name == "mark":
        economics = _economics(scenario, None, 1.0, most)
        return Design(name, "turnout", None, lambda: Mark(economics))
    if name == "clairvoyant" and sizes is not None and scenario.profile.gpu is not None:
        startup_s = scenario.profile.gpu.startup_s
        return Design(name, "turnout", None, lambda: Scheduled(sizes, startup_s, TICK_S))
    raise InvalidInput("--policies", name, ", ".join(NAMES))


def _economics(
    scenario: Scenario, topology: Topology | None, threshold: float | None, most: int = 1
) -> CapacityEconomics:
    return capacity_economics(
        scenario.profile,
        scenario.economics,
        topology=topology,
        max_instances=min(most, scenario.max_instances),
        threshold=threshold,
    )


def awake_prices(scenario: Scenario) -> SlotPrices:
    """Slot prices under the auto topology: colocated asleep, split while an instance is ready."""
    return slot_prices(scenario, Topology.COLOCATED, Topology.SPLIT, scenario.economics.front_memory_mb)


def best_fixed(scenario: Scenario, counts: NDArray[np.float64]) -> int:
    """The fixed count that would have been cheapest in the slot model, starts included."""
    prices = awake_prices(scenario)
    if prices.rate_rps <= 0.0:
        return 0
    most = int(min(scenario.max_instances, np.ceil(counts.max() / prices.rate_rps)))
    totals = np.zeros(most + 1)
    for start in range(0, len(counts), 4096):
        totals += slot_costs(counts[start : start + 4096], 1.0, prices, most).sum(axis=0)
    return int(np.argmin(totals + np.arange(most + 1) * scenario.start_usd))
