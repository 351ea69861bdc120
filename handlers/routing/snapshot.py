"""What the control loop publishes for a model, and the safe default made from the release's own profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

from handlers.errors import InvalidInput

from .economics import Economics
from .knobs import DEFAULT_KNOBS, Knobs
from .latency import BatchTable, Quantiles
from .profile import GpuProfile, Profile

POLICIES = ("turnout", "cpu_only", "gpu_only", "static_split", "latency_only")
"""Names of the policies; `policy` maps each to its function."""


class Topology(StrEnum):
    """Where the router runs: in the model's own function, or in a small front before it."""

    COLOCATED = "colocated"
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Predicted latency of each path by batch size, as the caller of that path sees it.

    `cpu`: inference in a warm function (or a warm model function, for a front). `cpu_cold`: the same when
    it must start first. `gpu`: network, batching wait and one batch, at `gpu_in_flight_seen` requests in
    flight, which is what the measurements behind it saw. `hop`: what a front pays to call the model's
    function; unused where colocated. `init_ms`: what a cold start adds.
    `cold_share` of the calls to the model's function find it cold.
    """

    cpu: BatchTable
    cpu_cold: BatchTable
    gpu: BatchTable | None
    hop: Quantiles
    init_ms: float = 0.0
    cold_share: float = 0.0
    gpu_in_flight_seen: float = 0.0
    rows: dict[tuple[int, float, bool, bool, int], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class GpuCapacity:
    """The endpoint as the control loop last saw it.

    `in_flight` requests over `ready` instances, each of which runs batches of up to `max_batch` items in
    `batch_ms` (ms by batch size). `failing`: the fleet's breaker is open.
    """

    ready: int
    starting: int = 0
    in_flight: float = 0.0
    max_batch: int = 1
    batch_ms: tuple[tuple[int, float], ...] = ((1, 0.0),)
    max_in_flight: int = 0
    failing: bool = False


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What the cascade does at one threshold: share escalated, accuracy of the merged answers."""

    threshold: float
    escalation_share: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """The release's calibrated threshold and the curve it was chosen from, thresholds increasing."""

    threshold: float
    escalation_share: float
    accuracy: float
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the control loop last published for a model; `from_profile` makes the safe default.

    `published_at` is epoch seconds; after `ttl_s` more it is stale. Raises `InvalidInput` for a policy that
    is not known. `static_gpu_share` is what the `static_split` policy sends to the GPU. `explore_share`
    bounds the requests that try the path that would not be chosen, `shadow_share` those that are repeated
    on the GPU after they were answered.
    """

    model: str
    release: str
    version: int
    published_at: float
    ttl_s: float
    topology: Topology
    policy: str
    economics: Economics
    latencies: Latencies
    gpu: GpuCapacity | None
    cascade: Cascade | None
    cpu_accuracy: float
    gpu_accuracy: float
    explore_share: float = 0.01
    shadow_share: float = 0.0
    static_gpu_share: float = 0.5

    def stale(self, now: float) -> bool:
        """Say whether it has outlived its time; `now` is epoch seconds."""
        return now > self.published_at + self.ttl_s

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InvalidInput("policy", self.policy, ", ".join(POLICIES))

    @classmethod
    def from_profile(
        cls,
        profile: Profile,
        economics: Economics,
        *,
        model: str = "",
        release: str = "",
        topology: Topology = Topology.COLOCATED,
        policy: str = "turnout",
        cascade: Cascade | None = None,
        knobs: Knobs = DEFAULT_KNOBS,
        gpu_ready: int = 0,
        gpu_starting: int = 0,
        now: float = 0.0,
        ttl_s: float = inf,
    ) -> Snapshot:
        """Make the snapshot that holds when none was published, or only a stale one.

        It predicts what the release measured of itself, and takes the GPU for asleep unless told otherwise.
        A profile with an escalation share but no `cascade` (a planning profile) gets a nominal threshold.
        """
        if cascade is None and profile.escalation_share > 0.0 and profile.gpu is not None:
            cascade = Cascade(NOMINAL_THRESHOLD, profile.escalation_share, profile.gpu.accuracy)
        gpu = profile.gpu
        return cls(
            model=model or profile.name,
            release=release,
            version=0,
            published_at=now,
            ttl_s=ttl_s,
            topology=topology,
            policy=policy,
            economics=economics,
            latencies=latencies_of(profile),
            gpu=None if gpu is None else capacity_of(gpu, gpu_ready, gpu_starting),
            cascade=cascade,
            cpu_accuracy=profile.cpu.accuracy,
            gpu_accuracy=profile.cpu.accuracy if gpu is None else gpu.accuracy,
            explore_share=knobs.explore_share,
            shadow_share=knobs.shadow_share,
            static_gpu_share=knobs.static_gpu_share,
        )


NOMINAL_THRESHOLD = 0.5


def latencies_of(profile: Profile) -> Latencies:
    """Return what the release measured of itself, before any request was seen."""
    cpu = BatchTable.from_batch_ms(profile.cpu.batch_ms, profile.cpu.service)
    gpu = None
    if profile.gpu is not None:
        wait_ms = profile.gpu.max_wait_ms if profile.gpu.max_batch > 1 else 0.0
        batches = {n: ms for n, ms in profile.gpu.batch_ms.items() if n <= profile.gpu.max_batch}
        sizes = tuple(sorted(batches))
        gpu = BatchTable(
            sizes, tuple(profile.network.plus(Quantiles.constant(wait_ms + batches[n])) for n in sizes)
        )
    return Latencies(
        cpu=cpu,
        cpu_cold=cpu.plus(Quantiles.constant(profile.cpu.init_ms)),
        gpu=gpu,
        hop=profile.network,
        init_ms=profile.cpu.init_ms,
    )


def capacity_of(gpu: GpuProfile, ready: int, starting: int) -> GpuCapacity:
    """Return the endpoint with so many instances, none of them busy."""
    batches = sorted((n, ms) for n, ms in gpu.batch_ms.items() if n <= gpu.max_batch)
    return GpuCapacity(
        ready=ready,
        starting=starting,
        max_batch=gpu.max_batch,
        batch_ms=tuple(batches),
    )


def cascade_of(raw: Mapping[str, Any] | None) -> Cascade | None:
    """Read a manifest's `cascade` object; raises `InvalidInput` when it is not one."""
    if raw is None:
        return None
    try:
        curve = tuple(
            CurvePoint(float(p["threshold"]), float(p["escalation_share"]), float(p["accuracy"]))
            for p in raw.get("curve", ())
        )
        return Cascade(
            threshold=float(raw["threshold"]),
            escalation_share=float(raw["escalation_share"]),
            accuracy=float(raw["accuracy"]),
            curve=tuple(sorted(curve, key=lambda point: point.threshold)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("cascade", raw, "threshold, escalation_share, accuracy and a curve") from error
