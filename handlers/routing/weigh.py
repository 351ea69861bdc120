"""Weighing: every way to serve a request with its latency, its cost, its quality and what speaks against it.

Cost of one request, with G the GB of a function, p its price per GB-s, r the fee of an invocation and d the
front door's (all from `Economics`), t the mean time in s, s the share that escalates:

    colocated   cpu      d + r + t_cpu·G·p
                gpu      d + r + t_gpu·G·p + m
    split       cpu      d + 2r + t_cpu·(G + F)·p
                gpu      d + r + t_gpu·F·p + m + late·(r + t_cpu·G·p)
    both        cascade  cpu + s·(t_gpu·W·p + m)
                shared   d + r + max(t_cpu, t_gpu)·W·p + m, of each part; split: + r + t_cpu·G·p

F is the front's memory, W that of the function which waits (G or F), `late` the share of GPU answers that
come so late that the front has asked for the standby. m is the GPU at its marginal price: the data sent,
and nothing else while paid capacity is idle; the time of one more instance when it is not.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import NamedTuple

from .forecast import Forecast, queue_ms, saturated
from .snapshot import Cascade, GpuCapacity, Snapshot
from .types import (
    BELOW_CONFIDENCE,
    BEST,
    BREAKER_OPEN,
    CASCADE_TOO_SLOW,
    CHEAP,
    CPU,
    CPU_TOO_SLOW,
    FEASIBLE,
    GPU,
    GPU_TOO_SLOW,
    OVER_COST_CEILING,
    SHARED_TOO_SLOW,
    SPLIT,
    Local,
    Option,
    Reason,
    Request,
)

# How much speaks against an option: what is short of quality may still be served, what is late or dear
# only for want of better, what cannot be called only when there is nothing else at all.
SEVERITY: dict[Reason, int] = {
    FEASIBLE: 0,
    BELOW_CONFIDENCE: 1,
    CPU_TOO_SLOW: 2,
    GPU_TOO_SLOW: 2,
    CASCADE_TOO_SLOW: 2,
    SHARED_TOO_SLOW: 2,
    OVER_COST_CEILING: 3,
    Reason.BUDGET_LOW: 4,
    BREAKER_OPEN: 5,
    Reason.GPU_BUSY: 5,
    Reason.GPU_STARTING: 6,
    Reason.GPU_ASLEEP: 6,
    Reason.GPU_ABSENT: 6,
}
# By priority (background, normal, interactive): the share of the endpoint's slots that it may fill, and the
# share of a budget after which it does without whatever costs more than the CPU.
IN_FLIGHT_SHARE = (0.5, 0.8, 1.0)
BUDGET_SHARE = (0.8, 0.9, 0.95)


class Need(NamedTuple):
    """The quality asked for: items below `threshold` need the heavy model, or all do (`heavy`).

    `share` of the items are expected to be below it; `confidence` is the accuracy after escalation.
    """

    threshold: float | None
    heavy: bool
    share: float
    confidence: float


NOTHING = Need(None, False, 0.0, 0.0)


def need_of(request: Request, snapshot: Snapshot) -> Need:
    """Return what the request's quality and floor mean for this release."""
    if request.quality is BEST:
        return Need(None, True, 1.0, snapshot.gpu_accuracy)
    cascade = snapshot.cascade
    floor = request.min_confidence
    if floor is not None and floor > 0.0:
        share, confidence = _on_curve(cascade, floor, snapshot)
        return Need(floor, False, share, confidence)
    if cascade is None or snapshot.gpu is None or request.quality is CHEAP:
        return NOTHING
    return Need(cascade.threshold, False, cascade.escalation_share, cascade.accuracy)


def _on_curve(cascade: Cascade | None, floor: float, snapshot: Snapshot) -> tuple[float, float]:
    """Share escalated and accuracy at a threshold; without a curve, the share that the CPU gets wrong."""
    if cascade is None or not cascade.curve:
        share = 1.0 - snapshot.cpu_accuracy if cascade is None else cascade.escalation_share
        return share, snapshot.gpu_accuracy if cascade is None else cascade.accuracy
    for point in cascade.curve:
        if point.threshold >= floor:
            return point.escalation_share, point.accuracy
    return 1.0, snapshot.gpu_accuracy


def weigh(
    request: Request, snapshot: Snapshot, local: Local, row: Forecast, need: Need, now: float
) -> tuple[tuple[Option, ...], float, float]:
    """Return every option, the CPU alone first, with its latency, cost, quality and what speaks against it.

    With them go the wait in ms predicted at the endpoint, and the marginal price in USD of one more call
    there.
    """
    economics, gpu = snapshot.economics, snapshot.gpu
    split = snapshot.topology is SPLIT
    remaining = request.latency_slo_ms - request.elapsed_ms
    ceiling = request.max_cost_usd if request.max_cost_usd is not None else inf
    per_ms = economics.lambda_gb_s / 1_024_000.0
    model_ms = economics.model_memory_mb * per_ms
    front_ms = economics.front_memory_mb * per_ms
    base = economics.front_door_usd(request.payload_bytes) + economics.lambda_request
    cpu_call = row.cpu_billed_ms * model_ms
    cpu_cost = base + cpu_call
    if not split and not local.cold:  # what this function's own starts cost each of its requests
        latencies = local.latencies or snapshot.latencies
        base += latencies.cold_share * latencies.init_ms * model_ms
        cpu_cost = base + cpu_call
    if split:
        cpu_cost += economics.lambda_request + row.cpu_mean_ms * front_ms
    cpu_reason = FEASIBLE
    if not local.cpu_breaker.allows(now):
        cpu_reason = BREAKER_OPEN
    elif cpu_cost > ceiling:
        cpu_reason = OVER_COST_CEILING
    elif row.cpu_ms > remaining:
        cpu_reason = CPU_TOO_SLOW
    alone_reason = cpu_reason
    if cpu_reason is FEASIBLE and (need.heavy or need.threshold is not None):
        alone_reason = BELOW_CONFIDENCE
    alone = Option(
        CPU,
        False,
        row.cpu_ms,
        row.cpu.share_within(remaining),
        cpu_cost,
        snapshot.cpu_accuracy,
        alone_reason is FEASIBLE,
        alone_reason,
    )
    if gpu is None or row.gpu is None:
        return (alone,), 0.0, 0.0

    in_flight = gpu.in_flight if local.gpu_in_flight is None else local.gpu_in_flight
    unavailable = _unavailable(request, gpu, local, in_flight, snapshot.explore_share, now)
    queue = 0.0
    if gpu.ready > 0:
        latencies = local.latencies or snapshot.latencies
        queue = queue_ms(gpu, in_flight, request.items)
        if latencies.gpu_in_flight_seen > 0.0:
            queue = max(0.0, queue - queue_ms(gpu, latencies.gpu_in_flight_seen, request.items))
    marginal = request.payload_bytes * 1e-9 * economics.data_gb
    if gpu.ready == 0 or saturated(gpu, in_flight):
        marginal += economics.gpu_second_usd() * request.items / items_per_s(gpu.batch_ms)
    waiting_ms = row.gpu_mean_ms + queue
    gpu_call = waiting_ms * (front_ms if split else model_ms) + marginal
    late = 0.0
    if split:
        late = 1.0 - row.gpu.share_within(remaining - row.cpu_ms - queue)
    gpu_cost = base + gpu_call + late * (economics.lambda_request + cpu_call)
    cap = _budget_cap(request, local, cpu_cost)

    gpu_ms = row.gpu_ms + queue
    gpu_reason = unavailable or _objection(gpu_cost, gpu_ms, cap, ceiling, remaining, GPU_TOO_SLOW)
    on_gpu = Option(
        GPU,
        False,
        gpu_ms,
        0.0 if gpu.ready == 0 else row.gpu.share_within(remaining - queue),
        gpu_cost,
        snapshot.gpu_accuracy,
        gpu_reason is FEASIBLE,
        gpu_reason,
    )
    shared: tuple[Option, ...] = ()
    if row.shared is not None and not need.heavy:
        part, n = row.shared, request.items
        shared_cost = base + part.mean_ms * (front_ms if split else model_ms) + marginal * part.gpu_items / n
        if split:
            shared_cost += economics.lambda_request + part.cpu_billed_ms * model_ms
            shared_cost += late * (economics.lambda_request + cpu_call * part.gpu_items / n)
        shared_ms, own = max(part.cpu_ms, part.gpu_ms + queue), n - part.gpu_items
        right = snapshot.cpu_accuracy
        if need.threshold is not None:  # and what the CPU's part is not sure of follows
            shared_cost += (1.0 - (1.0 - need.share) ** own) * gpu_call
            shared_ms += gpu_ms
            right = need.confidence
        reason = unavailable or (cpu_reason if cpu_reason is BREAKER_OPEN else None)
        reason = reason or _objection(shared_cost, shared_ms, cap, ceiling, remaining, SHARED_TOO_SLOW)
        escalation_ms = gpu_ms if need.threshold is not None else 0.0
        option = Option(
            GPU,
            False,
            shared_ms,
            part.share_within(remaining - escalation_ms, queue),
            shared_cost,
            (part.gpu_items * snapshot.gpu_accuracy + own * right) / n,
            reason is FEASIBLE,
            reason,
            part.gpu_items,
        )
        shared = (option,)
    if need.threshold is None or row.cascade is None:
        return (alone, on_gpu, *shared), queue, marginal
    if request.items == 1:
        cascade_cost = cpu_cost + need.share * gpu_call
    else:
        any_share = 1.0 - (1.0 - need.share) ** request.items
        cascade_cost = cpu_cost + any_share * gpu_call
    cascade_ms = row.cascade_ms + queue
    reason = cpu_reason if cpu_reason is not FEASIBLE else unavailable
    reason = reason or _objection(cascade_cost, cascade_ms, cap, ceiling, remaining, CASCADE_TOO_SLOW)
    cascade = Option(
        CPU,
        True,
        cascade_ms,
        0.0 if gpu.ready == 0 else row.cascade.share_within(remaining - queue),
        cascade_cost,
        need.confidence,
        reason is FEASIBLE,
        reason,
    )
    return (alone, cascade, on_gpu, *shared), queue, marginal


@lru_cache
def items_per_s(batch_ms: tuple[tuple[int, float], ...]) -> float:
    """Return the highest throughput of one instance over its batch sizes (items, ms)."""
    return max(1000.0 * size / ms if ms > 0.0 else inf for size, ms in batch_ms)


def _objection(
    cost_usd: float, ms: float, cap_usd: float, ceiling_usd: float, remaining_ms: float, slow: Reason
) -> Reason:
    if cost_usd > cap_usd:
        return Reason.BUDGET_LOW
    if cost_usd > ceiling_usd:
        return OVER_COST_CEILING
    if ms > remaining_ms:
        return slow
    return FEASIBLE


def _unavailable(
    request: Request, gpu: GpuCapacity, local: Local, in_flight: float, explore: float, now: float
) -> Reason | None:
    if gpu.ready == 0:
        return Reason.GPU_STARTING if gpu.starting else Reason.GPU_ASLEEP
    if not local.gpu_breaker.allows(now) or (gpu.failing and request.draw >= explore):
        return BREAKER_OPEN
    if gpu.max_in_flight and in_flight >= gpu.max_in_flight * IN_FLIGHT_SHARE[request.priority]:
        return Reason.GPU_BUSY
    return None


def _budget_cap(request: Request, local: Local, cpu_usd: float) -> float:
    """The most that an option may cost: no more than the CPU once a budget runs low."""
    for budget in local.budgets:
        if budget.spent_share >= BUDGET_SHARE[request.priority]:
            return cpu_usd
    return inf
