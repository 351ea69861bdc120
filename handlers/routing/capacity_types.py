"""What the capacity rule is told, what it remembers and what it answers; `capacity` says how it decides.

USD, seconds and requests throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from handlers.errors import InvalidInput

MAX_INSTANCES = 200
"""As many as turnout.toml allows, synth lets through and the planner plans with."""


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
    the `auto` topology). `capacity_rps` is what one instance serves inside the objective, and `queue_s` how
    long a request may wait for it. `threshold` is α, or None to learn it.
    """

    instance_usd_per_hour: float
    startup_s: float
    startup_billed: bool
    capacity_rps: float
    asleep: PathPrices
    awake: PathPrices
    min_instances: int = 0
    max_instances: int = 1
    threshold: float | None = None
    queue_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("instance_usd_per_hour", "startup_s", "capacity_rps", "threshold", "queue_s"):
            value = getattr(self, name)
            if value is None:
                continue
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
class Expert:
    """The rule at one α: its work function, and what it would hold and would have paid.

    `work_usd` is relative to its least value, by size; a forecast's are the costs of `seen_s` seconds.
    `starting_s` are the seconds until each ordered instance would be ready. `recent_usd` is its bill,
    forgetting; `bill_usd` all of it.
    """

    threshold: float
    work_usd: tuple[float, ...] = ()
    ready: int = 0
    starting_s: tuple[float, ...] = ()
    recent_usd: float = 0.0
    bill_usd: float = 0.0
    seen_s: float = 0.0

    @property
    def held(self) -> int:
        """Instances ready or starting."""
        return self.ready + len(self.starting_s)


@dataclass(frozen=True, slots=True)
class CapacityState:
    """What the rule remembers, as JSON-serialisable values.

    `work_usd` is the work function at α = 1 relative to its least value `optimum_usd`: what the clairvoyant
    would have paid so far at these prices. `experts` are empty where α is fixed. `bill_usd` is what the
    sizes really held cost, `held` the last of them, `largest` the most ever held, `leader` the α that was
    followed last.
    """

    work_usd: tuple[float, ...] = ()
    optimum_usd: float = 0.0
    experts: tuple[Expert, ...] = ()
    bill_usd: float = 0.0
    held: int = 0
    largest: int = 0
    leader: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Plain JSON types; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> CapacityState:
        """Read `to_json`'s result; raises `InvalidInput` when it is not one."""
        try:
            return cls(
                work_usd=_amounts(body.get("work_usd", ())),
                optimum_usd=float(body.get("optimum_usd", 0.0)),
                experts=tuple(
                    Expert(
                        float(raw["threshold"]),
                        _amounts(raw["work_usd"]),
                        int(raw["ready"]),
                        _amounts(raw["starting_s"]),
                        float(raw["recent_usd"]),
                        float(raw["bill_usd"]),
                        float(raw.get("seen_s", 0.0)),
                    )
                    for raw in body.get("experts", ())
                ),
                bill_usd=float(body.get("bill_usd", 0.0)),
                held=int(body.get("held", 0)),
                largest=int(body.get("largest", 0)),
                leader=float(body.get("leader", 0.0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput("capacity", body, "a capacity state as to_json writes it") from error


def _amounts(raw: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(value) for value in raw)
    if not all(math.isfinite(value) for value in values):
        raise ValueError("not a list of finite numbers")
    return values


@dataclass(frozen=True, slots=True)
class CapacityAction:
    """Go to `target` instances; `evidence_usd` is what the other size would have saved so far."""

    target: int
    current: int
    reason: str
    evidence_usd: float
