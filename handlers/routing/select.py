"""The policies: each picks one of the weighed options and says why. They are chosen by name in turnout.toml.

A selector is handed the options of `weigh` (the CPU alone first), never an empty tuple. It picks a feasible
option when there is one; `cpu_only`, `gpu_only` and `static_split` are baselines and look only at whether
a path can be called at all.
"""

from __future__ import annotations

from collections.abc import Callable

from .snapshot import Snapshot
from .types import BREAKER_OPEN, CHEAPEST_FEASIBLE, CPU, CPU_TOO_SLOW, EXPLORING, GPU, Option, Reason, Request
from .weigh import SEVERITY

Selector = Callable[[tuple[Option, ...], Request, Snapshot], tuple[Option, Reason]]

_CALLABLE = SEVERITY[BREAKER_OPEN]
_LATE = SEVERITY[CPU_TOO_SLOW]
MIN_EXPLORE_P = 0.5
MAX_EXPLORE_COST = 10.0


def turnout(options: tuple[Option, ...], request: Request, snapshot: Snapshot) -> tuple[Option, Reason]:
    """The cheapest feasible option; now and then the path that would not be chosen, to see how it fares."""
    best: Option | None = None
    for option in options:
        if option.feasible and (best is None or _cost(option) < _cost(best)):
            best = option
    if best is None:
        return least_bad(options)
    if request.draw < snapshot.explore_share:
        for option in options:
            if option.path is not best.path and _worth_a_try(option, best):
                return option, EXPLORING
    return best, CHEAPEST_FEASIBLE


def latency_only(options: tuple[Option, ...], _: Request, __: Snapshot) -> tuple[Option, Reason]:
    """The fastest feasible option, whatever it costs."""
    feasible = [option for option in options if option.feasible]
    if not feasible:
        return least_bad(options)
    return min(feasible, key=lambda option: (option.predicted_ms, *_cost(option))), Reason.FASTEST_FEASIBLE


def cpu_only(options: tuple[Option, ...], _: Request, __: Snapshot) -> tuple[Option, Reason]:
    """The CPU alone, always."""
    return next(o for o in options if o.path is CPU and not o.escalates), Reason.STATIC_SHARE


def gpu_only(options: tuple[Option, ...], _: Request, __: Snapshot) -> tuple[Option, Reason]:
    """The GPU whenever it can be called."""
    for option in options:
        if option.path is GPU and not option.gpu_items and SEVERITY[option.reason] < _CALLABLE:
            return option, Reason.STATIC_SHARE
    return least_bad(options)


def static_split(options: tuple[Option, ...], request: Request, snapshot: Snapshot) -> tuple[Option, Reason]:
    """The GPU for a fixed share of the requests, the CPU alone for the rest."""
    if request.draw < snapshot.static_gpu_share:
        return gpu_only(options, request, snapshot)
    return cpu_only(options, request, snapshot)


def least_bad(options: tuple[Option, ...]) -> tuple[Option, Reason]:
    """Nothing is feasible: the least severe objection, then the likeliest in time, then the cheapest."""
    best = min(options, key=lambda o: (SEVERITY[o.reason], -_late_p(o), *_cost(o)))
    return best, best.reason


def _late_p(option: Option) -> float:
    return option.p_meet if SEVERITY[option.reason] >= _LATE else 0.0


def _cost(option: Option) -> tuple[float, float, str, int]:
    return option.cost_usd, option.predicted_ms, option.path, option.gpu_items


def _worth_a_try(option: Option, best: Option) -> bool:
    """A path that is dearer, but not by an order of magnitude, or thought too slow: the GPU always (a standby
    keeps the deadline), the CPU if even odds are given."""
    if option.cost_usd > MAX_EXPLORE_COST * best.cost_usd:
        return False
    if option.feasible:
        return True
    if SEVERITY[option.reason] != _LATE:
        return False
    return option.path is GPU or option.p_meet >= MIN_EXPLORE_P


SELECTORS: dict[str, Selector] = {
    "turnout": turnout,
    "cpu_only": cpu_only,
    "gpu_only": gpu_only,
    "static_split": static_split,
    "latency_only": latency_only,
}
