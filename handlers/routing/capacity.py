"""How many GPU instances earn their price: break-even per capacity level, written as a work function.

The question at every step is ski rental (Karlin, Manasse, Rudolph, Sleator 1988): go on paying Lambda
per request, or pay the start-up price S and rent an instance. With n instances the cost of an interval is

    c(n) = n · rent + price of the requests that n instances can take on the GPU
                    + price of the rest on the CPU, missed escalations at their stated value

and moving from m to n instances costs S · max(n − m, 0), where S is what an instance costs from its order
until it is ready (rent · startup_s when the start is billed). The work function

    w'(n) = c(n) + min over m of [ w(m) + α · S · max(n − m, 0) ]

is the least that anybody could have paid so far and now hold n instances (Borodin, Linial, Saks 1992).
The rule is lazy: stay at n until w(n) is better reached by way of another size m, i.e. until
w(n) > w(m) + α · S · max(n − m, 0), and then go to m. Where costs are convex in n this is
exactly break-even per capacity level: level k is added when the saving it would have made since the
ledger was last empty, net of its rent, reaches α · S, and removed when the loss it has made reaches α · S
(Lin, Wierman, Andrew, Thereska 2011, "lazy capacity provisioning": at most 3 × the clairvoyant optimum
at α = 1, and 2 + 1/α for α < 1). Where they are not convex, because the first instance also moves
the model from the colocated to the split topology and so changes the price of every request, the work
function still compares whole sizes, which level-wise ledgers cannot.

**The forecast and the learned threshold.** A low α acts early, which is right where the load stays, and
wrong where it comes and goes; α = 2 waits, where one minute's burst is worth a start by itself. So by
default (`threshold` None) several `Expert`s run beside each other, on paper, each with its own memory,
instances (with the start-up delay) and bill: the rule at each of `THRESHOLDS`, and a forecast that the costs
of the last minutes (their mean, fading with half-life `SMOOTHED_S`) will last for `HORIZON_S` more: it holds
the size n that is cheapest over that time, its starts included. A start whose price is earned within the
horizon is thus ordered at once, others wait for the rules' evidence; to let an instance go costs nothing here
as in the bill. The fleet follows the expert whose bill is least, halving what is past every `MEMORY_S` and
crediting the instances held with their start (Blum and Burch 2000: experts over metrical task systems),
beginning with the forecast. What was really held is charged as it is seen: an order that the endpoint did not
take costs nothing.
The plain rule (α = 1) is the last expert and the safety net: whenever the bill of what was really held, less
the starts of what is held, exceeds the plain rule's by more than

    slack = S · TRUST_STARTS · (1 + largest size held) + TRUST_SHARE · (plain rule's bill)

the plain rule is followed until the excess is below that again. Hence for every arrival sequence

    bill ≤ (1 + TRUST_SHARE) · plain bill + S · (TRUST_STARTS + 2) · (1 + largest size) + one interval,

and the plain rule is within 3 × the clairvoyant optimum: learning can win much and lose little (combining
online algorithms: Fiat, Rabani, Ravid 1990). It holds whatever the other experts do, forecast or not.

Everything here is in USD, seconds and requests, and pure: the clock and the counts are handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .capacity_types import (
    CapacityAction,
    CapacityEconomics,
    CapacityObservation,
    CapacityState,
    Expert,
    PathPrices,
)

__all__ = [
    "CapacityAction",
    "CapacityEconomics",
    "CapacityObservation",
    "CapacityState",
    "Expert",
    "PathPrices",
    "serving_usd",
    "step",
]

THRESHOLDS = (0.1, 0.25, 0.5, 2.0, 1.0)
FORECAST = 0.0
EXPERTS = (FORECAST, *THRESHOLDS)
FIRST = 0
HORIZON_S = 1800.0
SMOOTHED_S = 300.0
MEMORY_S = 6 * 3600.0
TRUST_STARTS = 1.0
TRUST_SHARE = 0.1


def serving_usd(
    instances: int, arrivals: Sequence[float], slot_s: float, share: float, economics: CapacityEconomics
) -> float:
    """USD that the requests of consecutive slots cost with so many instances ready, rent not included.

    Room on the GPU goes to the requests that gain most from it: escalations first, as the router keeps room
    for them, then the others. What a burst leaves may wait up to `queue_s`: a bucket of room that deep.
    """
    prices = economics.awake if instances > 0 else economics.asleep
    fresh = instances * economics.capacity_rps * slot_s
    deep = room = instances * economics.capacity_rps * economics.queue_s
    gain_needing = prices.cpu_usd + prices.missed_usd - prices.gpu_usd
    gain_other = prices.cpu_usd - prices.gpu_usd
    total = 0.0
    for count in arrivals:
        room = min(room, deep) + fresh
        needing = count * share
        total += count * prices.cpu_usd + needing * prices.missed_usd
        if gain_needing > 0.0:
            taken = min(room, needing)
            total -= taken * gain_needing
            room -= taken
        if gain_other > 0.0:
            taken = min(room, count - needing)
            total -= taken * gain_other
            room -= taken
    return total


def step(
    state: CapacityState, observation: CapacityObservation, economics: CapacityEconomics
) -> tuple[CapacityState, CapacityAction]:
    """One step of the rule: charge the interval to every size, then stay or go to a better one."""
    current = observation.ready + observation.starting
    costs = interval_usd(observation, economics)
    low, high = economics.min_instances, economics.max_instances
    alpha = 1.0 if economics.threshold is None else economics.threshold
    price = alpha * economics.startup_usd
    charged = charge(state.work_usd, costs, price, current)
    least = min(charged[low:])
    after = replace(
        state,
        work_usd=tuple(value - least for value in relax(charged, price, low)),
        optimum_usd=state.optimum_usd + least,
    )
    if economics.threshold is not None:
        return after, decide_size(charged, price, current, low, high)
    return _follow(after, costs, observation, economics)


def interval_usd(observation: CapacityObservation, economics: CapacityEconomics) -> list[float]:
    """USD of the interval by size: rent, and the requests at that size."""
    arrivals = observation.arrivals
    slot_s = observation.interval_s / max(len(arrivals), 1)
    rent = economics.instance_usd_per_hour / 3600.0 * observation.interval_s
    most = max(arrivals, default=0.0)
    costs: list[float] = []
    serving = 0.0
    for size in range(economics.max_instances + 1):
        # A size that has room for the fullest slot serves all; more would serve no more.
        if size < 2 or most > (size - 1) * economics.capacity_rps * slot_s:
            serving = serving_usd(size, arrivals, slot_s, observation.escalation_share, economics)
        costs.append(size * rent + serving)
    return costs


def charge(work: Sequence[float], costs: Sequence[float], price: float, current: int) -> list[float]:
    """The work function with the interval added; one of the wrong length begins afresh at `current`."""
    if len(work) != len(costs):
        work = [price * max(size - current, 0) for size in range(len(costs))]
    return [before + cost for before, cost in zip(work, costs, strict=True)]


def _follow(
    state: CapacityState,
    costs: Sequence[float],
    observation: CapacityObservation,
    economics: CapacityEconomics,
) -> tuple[CapacityState, CapacityAction]:
    """Let every expert step on paper, and go where the leader, or the safety net, would be."""
    low, high = economics.min_instances, economics.max_instances
    current = observation.ready + observation.starting
    start = economics.startup_usd
    experts = state.experts
    if tuple(expert.threshold for expert in experts) != EXPERTS:
        experts = tuple(Expert(threshold, ready=observation.ready) for threshold in EXPERTS)
        state = replace(state, bill_usd=0.0, held=current, largest=current)
    experts = tuple(_advance(expert, costs, observation.interval_s, economics) for expert in experts)
    plain = experts[-1]
    bill = state.bill_usd + costs[min(observation.ready, high)] + start * max(current - state.held, 0)
    largest = max(state.largest, current)
    leader = _leader(experts, state.leader, start)
    slack = start * TRUST_STARTS * (1 + largest) + TRUST_SHARE * plain.bill_usd
    followed, reason = leader, f"leader_{leader.threshold:g}" if leader.threshold else "forecast"
    if (bill - start * current) - (plain.bill_usd - start * plain.held) > slack:
        followed, reason = plain, "safety_net"
    target = min(max(followed.held, low), high)
    if target == current:
        reason = "hold"
    elif not low <= current <= high:
        reason = "minimum" if current < low else "maximum"
    after = replace(
        state,
        experts=experts,
        bill_usd=bill,
        held=current,
        largest=max(largest, target),
        leader=leader.threshold,
    )
    work = followed.work_usd
    return after, CapacityAction(target, current, reason, abs(work[min(current, high)] - work[target]))


def _advance(
    expert: Expert, costs: Sequence[float], interval_s: float, economics: CapacityEconomics
) -> Expert:
    """One interval on paper: pay for what would be ready, then stay or move as this expert does."""
    low, high = economics.min_instances, economics.max_instances
    paid = costs[min(expert.ready, high)]
    waiting = sorted(left - interval_s for left in expert.starting_s)
    ready = expert.ready + sum(1 for left in waiting if left <= 0.0)
    waiting = [left for left in waiting if left > 0.0]
    held = ready + len(waiting)
    seen_s = 0.0
    if expert.threshold == FORECAST:
        after, seen_s, target = _forecast(expert, costs, held, interval_s, economics)
    else:
        price = expert.threshold * economics.startup_usd
        charged = charge(expert.work_usd, costs, price, held)
        target = decide_size(charged, price, held, low, high).target
        moved = relax(charged, price, low)
        least = min(moved[low:])
        after = [value - least for value in moved]
    more = target - held
    if more > 0:
        waiting += [economics.startup_s] * more
        paid += more * economics.startup_usd
    cancelled = min(len(waiting), max(-more, 0))
    waiting = waiting[: len(waiting) - cancelled]
    return Expert(
        threshold=expert.threshold,
        work_usd=tuple(after),
        ready=ready - (max(-more, 0) - cancelled),
        starting_s=tuple(waiting),
        recent_usd=expert.recent_usd * 0.5 ** (interval_s / MEMORY_S) + paid,
        bill_usd=expert.bill_usd + paid,
        seen_s=seen_s,
    )


def _forecast(
    expert: Expert, costs: Sequence[float], held: int, interval_s: float, economics: CapacityEconomics
) -> tuple[list[float], float, int]:
    """The costs by size so far, fading; how many seconds they are of; the best size if their mean lasts."""
    work, seen_s = list(costs), interval_s
    if len(expert.work_usd) == len(work):
        kept = 0.5 ** (interval_s / SMOOTHED_S)
        work = [kept * before + now for before, now in zip(expert.work_usd, work, strict=True)]
        seen_s += kept * expert.seen_s
    start = economics.startup_usd * seen_s / HORIZON_S
    sizes = range(economics.min_instances, economics.max_instances + 1)
    best = min(sizes, key=lambda size: (work[size] + start * max(size - held, 0), abs(size - held)))
    return work, seen_s, best


def _leader(experts: Sequence[Expert], followed: float, start_usd: float) -> Expert:
    """The expert of the least recent bill, where an instance that is held counts for what its start cost.

    The one followed stays until another is cheaper by half of what moving every instance would cost.
    """

    def worth(expert: Expert) -> float:
        return expert.recent_usd - start_usd * expert.held

    before = next((expert for expert in experts if expert.threshold == followed), experts[FIRST])
    best = min(experts, key=worth)
    most = max(expert.held for expert in experts)
    return best if worth(best) + start_usd * (1 + most) / 2.0 < worth(before) else before


def relax(charged: Sequence[float], price: float, low: int) -> list[float]:
    """The cheapest way to each size when one more instance costs `price` and one less costs nothing.

    Sizes below the minimum cannot be held; they are carried at the minimum's value.
    """
    moved = list(charged)
    for size in range(len(moved) - 2, low - 1, -1):
        moved[size] = min(moved[size], moved[size + 1])
    for size in range(low + 1, len(moved)):
        moved[size] = min(moved[size], moved[size - 1] + price)
    for size in range(low):
        moved[size] = moved[low]
    return moved


def decide_size(charged: Sequence[float], price: float, current: int, low: int, high: int) -> CapacityAction:
    """Stay, or go to the size by way of which it would have been cheaper to be here.

    Upwards that is w(n) ≥ w(m), since going back down is free; downwards w(n) ≥ w(m) + price · (n − m).
    """
    held = min(max(current, low), high)
    if held != current:
        return CapacityAction(held, current, "minimum" if held > current else "maximum", 0.0)
    best, best_gain = held, 0.0
    for size in range(low, high + 1):
        gain = charged[held] - charged[size] - price * max(held - size, 0)
        if gain > best_gain:
            best, best_gain = size, gain
    reason = "hold" if best == held else "start_earned" if best > held else "rent_not_earned"
    return CapacityAction(best, current, reason, best_gain)
