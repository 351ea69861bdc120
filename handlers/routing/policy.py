"""The decision: the cheapest path that meets the objective, the cost ceiling and the confidence floor.

Three options are weighed (`weigh`): the CPU alone, the CPU with escalation below a threshold, the GPU; for
a batch also both at once, each with a part of it. The policy named in the snapshot picks one of them
(`select`), and `decide` says how to carry it out. Arithmetic only: no I/O, no clock, no randomness beyond the
number that the request carries.
"""

from __future__ import annotations

from math import inf

from .forecast import Forecast, forecast
from .select import SELECTORS
from .snapshot import Snapshot
from .types import (
    BELOW_CONFIDENCE,
    BEST,
    BREAKER_OPEN,
    CPU,
    CPU_TOO_SLOW,
    EXPLORING,
    FORCED,
    GPU,
    SPLIT,
    Decision,
    Local,
    OnMiss,
    Option,
    Reason,
    Request,
)
from .weigh import SEVERITY, Need, need_of, weigh

STANDBY_MARGIN_MS = 5.0
HEDGE_TAIL = 0.05
MIN_RETRY_S = 1.0
QUEUE_SHARE = 0.5
"""Share of the endpoint's queue that requests may fill which do not know yet whether they need it."""
WAKING_RETRY_S = 60.0


def decide(request: Request, snapshot: Snapshot, local: Local, now: float) -> Decision:
    """Return how to serve `request`, and why; `now` is in seconds on the clock of the local breakers."""
    latencies = local.latencies or snapshot.latencies
    split = snapshot.topology is SPLIT
    lanes = 1 if snapshot.gpu is None else snapshot.gpu.ready
    row = forecast(latencies, request.items, request.attainment, local.cold, split, lanes)
    need = need_of(request, snapshot)
    options, queue, marginal_usd = weigh(request, snapshot, local, row, need, now)
    for budget in local.budgets:
        if budget.spent_usd >= budget.limit_usd:
            return _refused(request, options, Reason.BUDGET_EXHAUSTED, budget.resets_in_s)
    chosen, reason = _choose(request, snapshot, options)
    if SEVERITY[chosen.reason] >= SEVERITY[CPU_TOO_SLOW] and reason is not EXPLORING:
        if request.on_miss is OnMiss.REFUSE:
            wait_s = _retry_after_s(request, local, options, now)
            return _refused(request, options, Reason.NO_FEASIBLE_PATH_REFUSED, wait_s)
        if reason is not FORCED:
            reason = Reason.NO_FEASIBLE_PATH_BEST_EFFORT
    return _carried_out(
        request, snapshot, local, row, need, options, queue, marginal_usd, chosen, reason, now
    )


def gpu_within_ms(decision: Decision) -> float:
    """Return how long after the decision a GPU answer is still worth having, where a standby is as good.

    A front has asked for the standby by then and would pay twice; a colocated function has the CPU's answer.
    Where some answers need the heavy model, those who may do without it leave it room: an endpoint that takes
    them only while its queue is short has the rest of the queue for escalations, which are worth more. What
    the endpoint needs it is given: where the CPU is faster, the GPU was chosen because most answers need it.
    """
    within_ms = 0.0 if decision.gpu_items else decision.standby_after_ms
    if within_ms <= 0.0:
        alone = decision.options[0] if decision.options else None
        within_ms = inf if alone is None or alone.path is not CPU else alone.predicted_ms
    if decision.gpu_items or decision.degraded_below is None or decision.standby_degrades:
        return within_ms
    return max(QUEUE_SHARE * within_ms, decision.gpu_needs_ms)


def _choose(request: Request, snapshot: Snapshot, options: tuple[Option, ...]) -> tuple[Option, Reason]:
    if request.path is None:
        return SELECTORS[snapshot.policy](options, request, snapshot)
    for option in options:
        if option.path is request.path and not option.escalates and not option.gpu_items:
            if SEVERITY[option.reason] < SEVERITY[BREAKER_OPEN] or option.path is CPU:
                return option, FORCED
            return options[0], option.reason
    return options[0], Reason.GPU_ABSENT


def _refused(request: Request, options: tuple[Option, ...], reason: Reason, retry_s: float) -> Decision:
    best = min(options, key=lambda option: (-option.p_meet, option.cost_usd))
    return Decision(
        path=best.path,
        reason=reason,
        options=options,
        taken=best,
        predicted_ms=best.predicted_ms,
        cost_usd=0.0,
        deadline_ms=request.latency_slo_ms,
        admitted=False,
        retry_after_s=max(retry_s, MIN_RETRY_S),
    )


def _retry_after_s(request: Request, local: Local, options: tuple[Option, ...], now: float) -> float:
    """When a refused caller may find a path that meets its deadline, in s."""
    waits = []
    for option in options:
        if option.reason is BREAKER_OPEN:
            breaker = local.cpu_breaker if option.path is CPU else local.gpu_breaker
            waits.append(breaker.retry_after_s(now))
        elif option.reason in (Reason.GPU_ASLEEP, Reason.GPU_STARTING):
            waits.append(WAKING_RETRY_S)
        elif option.reason is not Reason.GPU_ABSENT and option.predicted_ms < inf:
            waits.append((option.predicted_ms - request.latency_slo_ms + request.elapsed_ms) / 1000.0)
    return min(waits, default=WAKING_RETRY_S)


def _carried_out(
    request: Request,
    snapshot: Snapshot,
    local: Local,
    row: Forecast,
    need: Need,
    options: tuple[Option, ...],
    queue: float,
    marginal_usd: float,
    chosen: Option,
    reason: Reason,
    now: float,
) -> Decision:
    cost_usd = chosen.cost_usd
    on_gpu = chosen.path is GPU
    remaining = request.latency_slo_ms - request.elapsed_ms
    forced_cpu = request.path is CPU
    below = None if forced_cpu else need.threshold
    degraded_reason = None
    if not on_gpu and not chosen.escalates and (below is not None or need.heavy):
        blocked = _blocked(options)
        degraded_reason = blocked.reason if blocked is not None else Reason.GPU_ABSENT
        if reason is BELOW_CONFIDENCE:
            reason = degraded_reason
    hedge_after = None
    standby = False
    standby_after = 0.0
    if on_gpu:
        standby = local.cpu_breaker.allows(now)
        latest = max(0.0, remaining - row.cpu_ms - STANDBY_MARGIN_MS)
        if snapshot.topology is SPLIT:
            standby_after = latest
        elif chosen.gpu_items and row.shared is not None:
            standby_after = min(row.shared.cpu_ms, latest)  # this CPU has its own part to do first
        after = row.gpu_p95_ms + queue
        if local.hedge_tokens >= 1.0 and after + row.gpu_median_ms + queue < remaining:
            hedge_after = after
            cost_usd += HEDGE_TAIL * marginal_usd
    heavy = need.heavy or request.path is GPU
    escalates = chosen.escalates or (chosen.gpu_items > 0 and need.threshold is not None)
    chunk = row.shared.chunk if chosen.gpu_items and row.shared is not None else row.gpu_chunk
    return Decision(
        chosen.path,
        reason,
        options,
        chosen,
        chosen.predicted_ms,
        cost_usd,
        request.latency_slo_ms,
        need.threshold if escalates else None,
        row.gpu_ms + queue,
        1.0 if heavy and not forced_cpu else below,
        degraded_reason,
        standby,
        standby_after,
        heavy,
        hedge_after,
        chunk,
        True,
        None,
        not on_gpu and _shadowed(request, snapshot, options),
        chosen.gpu_items,
    )


def _blocked(options: tuple[Option, ...]) -> Option | None:
    """The option with the heavy model that came nearest to being taken."""
    better = [option for option in options if option.escalates or option.path is GPU]
    return min(better, key=lambda option: SEVERITY[option.reason], default=None)


def _shadowed(request: Request, snapshot: Snapshot, options: tuple[Option, ...]) -> bool:
    if snapshot.shadow_share <= 0.0 or request.draw >= 1.0 or request.quality is BEST:
        return False
    if not any(o.path is GPU and SEVERITY[o.reason] < SEVERITY[BREAKER_OPEN] for o in options):
        return False  # there is nobody to ask
    # The fraction of a multiple: independent of the use that the selectors make of the same draw.
    return (request.draw * 9973.0) % 1.0 < snapshot.shadow_share
