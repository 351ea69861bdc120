"""What the router is asked, what it knows, and what it answers.

    Request  what one caller wants          Snapshot  what the control loop last published for the model
    Local    what this sandbox knows        Decision  the path, why, and every option that was weighed

Times are ms (ages and intervals in s), money is USD, shares and probabilities are 0..1. None of them changes
once it is made; those that each request makes are tuples, which take a third of the time to make.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from math import inf
from typing import NamedTuple

from handlers.errors import InvalidInput

from .breaker import CLOSED, Breaker
from .budget import BudgetView
from .economics import Economics
from .profile import Profile
from .snapshot import Cascade, CurvePoint, GpuCapacity, Latencies, Snapshot, Topology

__all__ = [
    "Breaker",
    "BudgetView",
    "Cascade",
    "Constraints",
    "CurvePoint",
    "Decision",
    "Economics",
    "GpuCapacity",
    "Latencies",
    "Local",
    "OnMiss",
    "Option",
    "Path",
    "Priority",
    "Profile",
    "Quality",
    "Reason",
    "Request",
    "Snapshot",
    "Topology",
]


class Path(StrEnum):
    """Where an answer comes from."""

    CPU = "cpu"
    GPU = "gpu"


class OnMiss(StrEnum):
    """What to do with work that cannot meet its deadline on any path."""

    BEST_EFFORT = "best_effort"
    REFUSE = "refuse"


class Quality(StrEnum):
    """Whose answer will do: the CPU's, the CPU's where it is confident enough, or the heavy model's."""

    CHEAP = "cheap"
    BALANCED = "balanced"
    BEST = "best"


class Priority(IntEnum):
    """Who gives way first when the GPU or the budget runs short: the lowest."""

    BACKGROUND = 0
    NORMAL = 1
    INTERACTIVE = 2


class Reason(StrEnum):
    """Why an option, or a whole decision, is what it is."""

    # of a decision
    CHEAPEST_FEASIBLE = "cheapest_feasible"
    FASTEST_FEASIBLE = "fastest_feasible"
    FORCED = "forced"
    EXPLORING = "exploring"
    STATIC_SHARE = "static_share"
    NO_FEASIBLE_PATH_BEST_EFFORT = "no_feasible_path_best_effort"
    NO_FEASIBLE_PATH_REFUSED = "no_feasible_path_refused"
    # of an option, and of a decision that had to do without it
    FEASIBLE = "feasible"
    CPU_TOO_SLOW = "cpu_too_slow"
    GPU_TOO_SLOW = "gpu_too_slow"
    CASCADE_TOO_SLOW = "cascade_too_slow"
    SHARED_TOO_SLOW = "shared_too_slow"
    GPU_ABSENT = "gpu_absent"
    GPU_ASLEEP = "gpu_asleep"
    GPU_STARTING = "gpu_starting"
    GPU_BUSY = "gpu_busy"
    BREAKER_OPEN = "breaker_open"
    BELOW_CONFIDENCE = "below_confidence"
    OVER_COST_CEILING = "over_cost_ceiling"
    BUDGET_LOW = "budget_low"
    BUDGET_EXHAUSTED = "budget_exhausted"


# Members by names of their own, for what every request runs: before Python 3.12 `Path.CPU` goes by way of the
# enum's metaclass, which takes ten times as long, and a request did so forty times.
CPU, GPU = Path.CPU, Path.GPU
SPLIT = Topology.SPLIT
CHEAP, BEST = Quality.CHEAP, Quality.BEST
FORCED, EXPLORING, CHEAPEST_FEASIBLE = Reason.FORCED, Reason.EXPLORING, Reason.CHEAPEST_FEASIBLE
FEASIBLE, BELOW_CONFIDENCE, BREAKER_OPEN = Reason.FEASIBLE, Reason.BELOW_CONFIDENCE, Reason.BREAKER_OPEN
OVER_COST_CEILING, CPU_TOO_SLOW, GPU_TOO_SLOW, CASCADE_TOO_SLOW, SHARED_TOO_SLOW = (
    Reason.OVER_COST_CEILING,
    Reason.CPU_TOO_SLOW,
    Reason.GPU_TOO_SLOW,
    Reason.CASCADE_TOO_SLOW,
    Reason.SHARED_TOO_SLOW,
)

Constraints = tuple[float, float, float | None, float | None, Quality | None, Path | None, OnMiss, Priority]
"""The fields of a `Request` that its caller chooses, in their order."""


class Request(NamedTuple):
    """What one caller wants.

    `latency_slo_ms` counts from the arrival, of which `elapsed_ms` have passed; a share `attainment` of
    such requests must meet it. `draw` is a uniform random number in [0, 1) handed in by the caller; the
    default, 1, never explores. `payload_bytes` is the body that would be sent to the GPU.
    """

    latency_slo_ms: float
    attainment: float = 0.99
    max_cost_usd: float | None = None
    min_confidence: float | None = None
    quality: Quality | None = None
    path: Path | None = None
    on_miss: OnMiss = OnMiss.BEST_EFFORT
    priority: Priority = Priority.NORMAL
    items: int = 1
    payload_bytes: int = 0
    elapsed_ms: float = 0.0
    draw: float = 1.0

    @property
    def constraints(self) -> Constraints:
        """Return the fields that the caller chooses."""
        return self[:8]

    def checked(self) -> Request:
        """Return it as it is. Raises `InvalidInput` for a number that makes no sense."""
        if not 0.0 < self.latency_slo_ms < inf:
            raise InvalidInput("latency_slo_ms", self.latency_slo_ms, "a finite number of ms above 0")
        if not 0.0 < self.attainment < 1.0:
            raise InvalidInput("attainment", self.attainment, "a share between 0 and 1, both excluded")
        if self.items < 1:
            raise InvalidInput("items", self.items, "a whole number of at least 1")
        if not 0.0 <= self.elapsed_ms < inf:
            raise InvalidInput("elapsed_ms", self.elapsed_ms, "a finite number of ms, 0 or more")
        if self.max_cost_usd is not None and not 0.0 < self.max_cost_usd < inf:
            raise InvalidInput("max_cost_usd", self.max_cost_usd, "a finite amount in USD above 0")
        if self.min_confidence is not None and not 0.0 <= self.min_confidence <= 1.0:
            raise InvalidInput("min_confidence", self.min_confidence, "a number from 0 to 1")
        return self


class Local(NamedTuple):
    """What this sandbox knows beyond the snapshot; `Local()` knows nothing and is a sound default.

    `cold`: the model's session is not open yet. `gpu_in_flight`: endpoint calls in flight, where the caller
    knows better than the snapshot. `hedge_tokens`: extra calls it may still make. `latencies`: the
    snapshot's, blended with what was seen here. `budgets`: the model's and the caller's.
    """

    cold: bool = False
    cpu_breaker: Breaker = CLOSED
    gpu_breaker: Breaker = CLOSED
    gpu_in_flight: float | None = None
    hedge_tokens: float = 0.0
    latencies: Latencies | None = None
    budgets: tuple[BudgetView, ...] = ()


class Option(NamedTuple):
    """One way to serve the request, weighed.

    `escalates`: the CPU answers first and items below the threshold go on to the GPU. `predicted_ms` is the
    latency at the objective's percentile (for an option that escalates, of a request that does), `p_meet`
    the probability to meet the deadline, `cost_usd` and `confidence` (share of right answers) expectations.
    `gpu_items`: a batch is shared, so many of its items on the GPU and the rest on the CPU; 0: it is not.
    """

    path: Path
    escalates: bool
    predicted_ms: float
    p_meet: float
    cost_usd: float
    confidence: float
    feasible: bool
    reason: Reason
    gpu_items: int = 0


class Decision(NamedTuple):
    """The path to take, and why: of the `options` that were weighed, `taken`.

    `deadline_ms` counts from the arrival. The CPU answers alone unless `escalate_below` is set: then items
    whose confidence is lower go to the GPU if `gpu_needs_ms` are still left. An answer below `degraded_below`
    that was not escalated is degraded, because of `degraded_reason`. On the GPU path `standby` says that a
    CPU answer must be ready: to be started `standby_after_ms` after the decision (0: at once), sent when the
    GPU fails or the deadline nears; it is degraded iff `standby_degrades`. `hedge_after_ms`: when a second
    call to the GPU may be made. `chunk_items`: the most items to put into one call there. `gpu_items`: the
    batch is shared, its first so many items on the GPU and the rest on the CPU meanwhile. Not `admitted`:
    refuse, `retry_after_s` says when to come back, `reason` if by load (503) or budget (429).
    """

    path: Path
    reason: Reason
    options: tuple[Option, ...]
    taken: Option
    predicted_ms: float
    cost_usd: float
    deadline_ms: float
    escalate_below: float | None = None
    gpu_needs_ms: float = inf
    degraded_below: float | None = None
    degraded_reason: Reason | None = None
    standby: bool = False
    standby_after_ms: float = 0.0
    standby_degrades: bool = False
    hedge_after_ms: float | None = None
    chunk_items: int = 1
    admitted: bool = True
    retry_after_s: float | None = None
    shadow: bool = False
    gpu_items: int = 0
