"""Who sets the instance count: the capacity rule itself, and the ways that others do it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from handlers.routing.capacity import CapacityEconomics, CapacityObservation, CapacityState, step
from handlers.routing.capacity_limits import bounded, refusal, within_hour


@dataclass(frozen=True, slots=True)
class Seen:
    """What a scaler sees at a tick: counts per second since the last one, instances now."""

    now_s: float
    interval_s: float
    arrivals: Sequence[float]
    ready: int
    starting: int
    escalation_share: float

    @property
    def steady(self) -> bool:
        """Whether the endpoint takes an order: not while instances start (`capacity_limits`)."""
        return self.starting == 0


class Scaler(Protocol):
    """Says how many instances there shall be; `first` before the trace begins, which is ordered in time."""

    first: int

    def target(self, seen: Seen) -> tuple[int, str]:
        """The wanted count (ready and starting together) and the reason."""
        ...


class ByEconomics:
    """turnout's own rule: `handlers.routing.capacity.step`, its state carried from tick to tick, within the
    control loop's limits."""

    def __init__(self, economics: CapacityEconomics) -> None:
        self.first = economics.min_instances
        self._economics = economics
        self.state = CapacityState()
        self._orders: tuple[float, ...] = ()
        self._asked: int | None = None

    def target(self, seen: Seen) -> tuple[int, str]:
        """Ask the rule."""
        observation = CapacityObservation(
            interval_s=seen.interval_s,
            arrivals=seen.arrivals,
            ready=seen.ready,
            starting=seen.starting,
            escalation_share=seen.escalation_share,
        )
        self.state, action = step(self.state, observation, self._economics)
        current = seen.ready + seen.starting
        target = bounded(action.target, self._asked, current)
        self._asked = action.target
        self._orders = within_hour(self._orders, seen.now_s)
        refused = refusal(target, current, seen.steady, self._orders, seen.now_s)
        if refused:
            return current, refused
        if target > current:
            self._orders = (*self._orders, seen.now_s)
        return target, action.reason


class Fixed:
    """Always the same count."""

    def __init__(self, count: int) -> None:
        self.first = count

    def target(self, seen: Seen) -> tuple[int, str]:
        """The count, whatever is seen."""
        del seen
        return self.first, "fixed"


class Scheduled:
    """A schedule known beforehand, one count per tick: holds what the next start-up time will need."""

    def __init__(self, sizes: Sequence[int], startup_s: float, tick_s: float) -> None:
        self.first = sizes[0]
        self._sizes = sizes
        self._ahead = 1 + ceil(startup_s / tick_s)
        self._tick_s = tick_s

    def target(self, seen: Seen) -> tuple[int, str]:
        """The most that is scheduled until an order given now would be ready."""
        at = min(round(seen.now_s / self._tick_s), len(self._sizes) - 1)
        return max(self._sizes[at : at + self._ahead]), "scheduled"


class TargetTracking:
    """SageMaker's target tracking on invocations per instance, as Application Auto Scaling documents it.

    Two alarms: above the target for 3 one-minute periods scales out to ceil(load / target); below 0.9 of it
    for 15 periods scales in. Cooldowns of 300 s each way; never below one instance.
    """

    def __init__(self, capacity_rps: float, most: int, utilisation: float = 0.7) -> None:
        self.first = 1
        self._target_rps = capacity_rps * utilisation
        self._most = max(1, most)
        self._loads: deque[float] = deque(maxlen=15)
        self._out_until = self._in_until = 0.0

    def target(self, seen: Seen) -> tuple[int, str]:
        """One evaluation of the alarms."""
        current = max(1, seen.ready + seen.starting)
        rate = sum(seen.arrivals) / seen.interval_s
        serving = max(1, seen.ready)
        self._loads.append(rate / serving)
        wanted = min(self._most, max(1, ceil(rate / self._target_rps - 1e-9)))
        if not seen.steady:
            return current, "the endpoint updates"
        recent = list(self._loads)
        above = len(recent) >= 3 and min(recent[-3:]) > self._target_rps
        below = len(recent) == 15 and max(recent) < 0.9 * self._target_rps
        if above and seen.now_s >= self._out_until and wanted > current:
            self._out_until = seen.now_s + 300.0
            return wanted, "above target"
        if below and seen.now_s >= max(self._in_until, self._out_until) and wanted < current:
            self._in_until = seen.now_s + 300.0
            return wanted, "below target"
        return current, "hold"


class Mark:
    """Procurement as in MArk (Zhang et al., ATC 2019): provision for the load predicted one start-up ahead.

    The prediction is the last minutes' level and trend (Holt). As many instances are bought as the predicted
    load keeps above the break-even rate, Lambda takes the rest; one is given back after `patience`
    ticks in which the prediction did not want it.
    """

    def __init__(self, economics: CapacityEconomics, patience: int = 5) -> None:
        self.first = 0
        self._economics = economics
        self._patience = patience
        self._level = self._trend = 0.0
        self._begun = False
        self._unwanted = 0

    def target(self, seen: Seen) -> tuple[int, str]:
        """Predict, and buy what would earn its rent."""
        rate = sum(seen.arrivals) / seen.interval_s
        if self._begun:
            level = 0.5 * rate + 0.5 * (self._level + self._trend)
            self._trend = 0.2 * (level - self._level) + 0.8 * self._trend
            self._level = level
        else:
            self._level, self._begun = rate, True
        ahead = self._economics.startup_s / max(seen.interval_s, 1.0)
        predicted = max(0.0, self._level + self._trend * ahead)
        wanted = self._bought_for(predicted, seen.escalation_share)
        current = seen.ready + seen.starting
        if not seen.steady:
            return current, "the endpoint updates"
        self._unwanted = self._unwanted + 1 if wanted < current else 0
        if wanted > current:
            return wanted, "predicted load"
        if self._unwanted >= self._patience:
            self._unwanted = 0
            return wanted, "load gone"
        return current, "hold"

    def _bought_for(self, rate: float, share: float) -> int:
        economics = self._economics
        prices = economics.awake
        saved = prices.cpu_usd - prices.gpu_usd + share * prices.missed_usd
        if saved <= 0.0 or economics.capacity_rps <= 0.0:
            return 0
        break_even = economics.instance_usd_per_hour / 3600.0 / saved
        whole = int(rate / economics.capacity_rps)
        left = rate - whole * economics.capacity_rps
        most = economics.max_instances if break_even <= economics.capacity_rps else 0
        return min(most, whole + (1 if left >= break_even else 0))
