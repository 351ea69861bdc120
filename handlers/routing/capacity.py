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

Everything here is in USD, seconds and requests, and pure: the clock and the counts are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from handlers.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class PathPrices:
    """USD for one request by path, in the topology it would run in (front door and Lambda included).

    `gpu_usd` is the Lambda that waits for the GPU, not the instance: instances are rented.
    `missed_usd` is the stated value of a low-confidence answer that was not escalated.
    """

    cpu_usd: float
    gpu_usd: float
    missed_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class CapacityEconomics:
    """What the decision depends on besides the traffic.

    `asleep` are the prices while no instance is ready and `awake` those while one is (the two differ under
    the `auto` topology). `capacity_rps` is what one instance serves inside the objective. `threshold` is α.
    """

    instance_usd_per_hour: float
    startup_s: float
    startup_billed: bool
    capacity_rps: float
    asleep: PathPrices
    awake: PathPrices
    min_instances: int = 0
    max_instances: int = 1
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("instance_usd_per_hour", "startup_s", "capacity_rps", "threshold"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(name, value, "a finite number, zero or more")
        if not 0 <= self.min_instances <= self.max_instances:
            raise InvalidInput(
                "min_instances", self.min_instances, f"0 to max_instances ({self.max_instances})"
            )

    @property
    def startup_usd(self) -> float:
        """Price of one start: the rent from the order until the instance is ready, when that is billed.

        An unbilled start still loses what the instance would have saved; a tenth of the rent stands for
        it, so that capacity never flaps at no price.
        """
        share = 1.0 if self.startup_billed else 0.1
        return self.instance_usd_per_hour / 3600.0 * self.startup_s * share


@dataclass(frozen=True, slots=True)
class CapacityObservation:
    """What happened since the last step.

    `arrivals` are request counts of equal slots that together span `interval_s` (one slot will do; one a
    second shows bursts that a minute's mean hides). `escalation_share` of them needed the GPU's answer.
    `ready` and `starting` are instances now.
    """

    interval_s: float
    arrivals: Sequence[float]
    ready: int
    starting: int
    escalation_share: float = 0.0


@dataclass(frozen=True, slots=True)
class CapacityState:
    """The work function relative to its least value, USD by instance count, and that least value so far."""

    work_usd: tuple[float, ...] = ()
    optimum_usd: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Plain JSON types; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> CapacityState:
        """Read `to_json`'s result; raises `InvalidInput` when it is not one."""
        work, optimum = body.get("work_usd", ()), body.get("optimum_usd", 0.0)
        if not isinstance(work, list | tuple) or not all(isinstance(value, int | float) for value in work):
            raise InvalidInput("capacity.work_usd", work, "a list of USD amounts")
        if not isinstance(optimum, int | float):
            raise InvalidInput("capacity.optimum_usd", optimum, "USD")
        return cls(tuple(float(value) for value in work), float(optimum))


@dataclass(frozen=True, slots=True)
class CapacityAction:
    """Go to `target` instances; `evidence_usd` is what the other size would have saved so far."""

    target: int
    current: int
    reason: str
    evidence_usd: float


def serving_usd(
    instances: int, arrivals: float, slot_s: float, share: float, economics: CapacityEconomics
) -> float:
    """USD that one slot's requests cost with so many instances ready, rent not included.

    Room on the GPU goes to the requests that gain most from it: escalations first, then the others.
    """
    prices = economics.awake if instances > 0 else economics.asleep
    room = instances * economics.capacity_rps * slot_s
    needing = arrivals * share
    total = arrivals * prices.cpu_usd + needing * prices.missed_usd
    gain_needing = prices.cpu_usd + prices.missed_usd - prices.gpu_usd
    gain_other = prices.cpu_usd - prices.gpu_usd
    if gain_needing > 0:
        taken = min(room, needing)
        total -= taken * gain_needing
        room -= taken
    if gain_other > 0:
        total -= min(room, arrivals - needing) * gain_other
    return total


def step(
    state: CapacityState, observation: CapacityObservation, economics: CapacityEconomics
) -> tuple[CapacityState, CapacityAction]:
    """One step of the rule: charge the interval to every size, then stay or go to a better one."""
    current = observation.ready + observation.starting
    low, high = economics.min_instances, economics.max_instances
    sizes = range(high + 1)
    price = economics.threshold * economics.startup_usd
    work = state.work_usd
    if len(work) != len(sizes):
        work = tuple(price * max(size - current, 0) for size in sizes)
    slot_s = observation.interval_s / max(len(observation.arrivals), 1)
    rent = economics.instance_usd_per_hour / 3600.0 * observation.interval_s
    share = observation.escalation_share
    charged = [
        work[size]
        + size * rent
        + sum(serving_usd(size, count, slot_s, share, economics) for count in observation.arrivals)
        for size in sizes
    ]
    allowed = charged[low:]
    least = min(allowed)
    moved = relax(charged, price, low)
    after = CapacityState(tuple(value - least for value in moved), state.optimum_usd + least)
    return after, decide_size(charged, price, current, low, high)


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
