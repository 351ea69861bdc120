"""One step of the control loop for one model, as a function: what was seen in, what to do out.

Learning: reports are merged into sketches that fade, and the snapshot's latencies are the profile's corrected
by them. Scaling: the break-even rule of `capacity`, its steps bounded and its orders rationed. Routing: the
topology of `route`. All state is a value that survives as JSON. A loop that was away goes through the minutes
that it missed one by one, as far back as reports are kept; one that lost its memory does so from the first
report that there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .capacity import CapacityAction, CapacityObservation, CapacityState, interval_usd, step
from .capacity_limits import bounded, refusal, within_hour
from .capacity_prices import capacity_economics
from .controlled import Controlled
from .learn import learned, with_model_latency
from .profile import Profile
from .report import MAX_MINUTES, Report, by_minute
from .route import AUTO, Route, step_route
from .sketch import Sketch
from .snapshot import Cascade, GpuCapacity, Snapshot, Topology, capacity_of

HALF_LIFE_S = 120.0
MAX_CALLS = 500.0
SNAPSHOT_TTL_S = 300.0
SLOTS_AHEAD = 4
FAILING_CALLS = 10.0
FAILING_SHARE = 0.5
COLD_PRIOR = 20.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint as its service describes it. `concurrent`: mean requests in flight, where known.

    `model_latency_ms` is p50, p95, p99 of `invocations` calls as the service measured them, without network,
    `no_capacity` the calls of a minute that found no instance. While it is not `steady` its size cannot be
    changed.
    """

    ready: int
    starting: int = 0
    concurrent: float | None = None
    invocations: float = 0.0
    model_latency_ms: tuple[float, float, float] | None = None
    no_capacity: float = 0.0
    steady: bool = True


@dataclass(frozen=True, slots=True)
class ControlState:
    """What the loop remembers of a model from one minute to the next.

    `minute` is the last one (epoch minutes) whose reports are in; `orders` the epoch seconds of recent
    orders of instances; `asked` the size that the last round wanted, None where it wanted none; `spent_usd`
    all that the requests and the instances cost so far.
    """

    snapshot_version: int = 0
    minute: int = 0
    capacity: CapacityState = field(default_factory=CapacityState)
    route: Route = field(default_factory=Route)
    orders: tuple[float, ...] = ()
    asked: int | None = None
    sketches: dict[str, Sketch] = field(default_factory=dict)
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: publish `snapshot`, set `target` instances and move the route, where not None."""

    state: ControlState
    snapshot: Snapshot
    target: int | None
    route: Topology | None
    action: CapacityAction | None
    reasons: tuple[str, ...]


def advance(
    controlled: Controlled,
    release: str,
    profile: Profile,
    cascade: Cascade | None,
    state: ControlState,
    report: Report,
    endpoint: Endpoint | None,
    now: float,
) -> Step:
    """Return the step at `now` (epoch s), given the reports of whole minutes since `state.minute`."""
    minute = int(now // 60)
    missed = _minutes_since(state, report, minute)
    minutes = min(missed, MAX_MINUTES)
    interval_s = 60.0 * minutes
    sketches = _faded(state.sketches, report, interval_s)
    reasons: list[str] = []
    if missed > minutes:
        reasons.append(f"away for {missed} minutes: the reports of {missed - minutes} are gone")
    action, target, capacity = None, None, state.capacity
    by_size_usd: list[float] = []
    ready = endpoint.ready if endpoint is not None else 0
    wanted = ready + (endpoint.starting if endpoint is not None else 0)
    current = wanted
    if endpoint is not None and controlled.economic and minutes:
        capacity, action, by_size_usd = _scale(controlled, profile, state, report, endpoint, minute, minutes)
        if action is not None:
            wanted = bounded(action.target, state.asked, current)
    move = step_route(controlled.topology, state.route, ready, wanted, now)
    if move.moved:
        reasons.append(f"route to {move.route.topology}: {move.reason}")
    recent = within_hour(state.orders, now)
    if action is not None and endpoint is not None and move.target != current:
        refused = refusal(move.target, current, endpoint.steady, recent, now)
        if refused:
            reasons.append(refused)
        else:
            target = move.target
            recent = (*recent, now) if target > current else recent
            saved_usd = _at(by_size_usd, current) - _at(by_size_usd, target)
            reasons.append(
                f"{current} to {target} instances: {action.reason}; {target} would have saved "
                f"{saved_usd:.6f} USD in the last minute"
            )
    rent_usd = ready * controlled.economics.gpu_second_usd() * interval_s
    after = ControlState(
        snapshot_version=state.snapshot_version + 1,
        minute=max(minute - 1, state.minute),
        capacity=capacity,
        route=move.route,
        orders=recent,
        asked=action.target if action is not None else None,
        sketches=sketches,
        spent_usd=state.spent_usd + report.counts["cost_usd"] + rent_usd,
    )
    snapshot = _snapshot(controlled, release, profile, cascade, after, report, endpoint, interval_s, now)
    return Step(after, snapshot, target, move.route.topology if move.moved else None, action, tuple(reasons))


def _minutes_since(state: ControlState, report: Report, minute: int) -> int:
    """Whole minutes since the last round: 0 for a second round in one minute."""
    if state.minute:
        return max(minute - 1 - state.minute, 0)
    earliest = min(report.arrivals, default=60 * minute - 1) // 60
    return min(max(minute - earliest, 1), MAX_MINUTES)


def _faded(before: dict[str, Sketch], report: Report, interval_s: float) -> dict[str, Sketch]:
    merged = Report(sketches={key: Sketch(sketch.buckets) for key, sketch in before.items()})
    for sketch in merged.sketches.values():
        sketch.fade(0.5 ** (interval_s / HALF_LIFE_S))
    merged.merge(Report(sketches=report.sketches))
    for sketch in merged.sketches.values():
        if sketch.count > MAX_CALLS:
            sketch.fade(MAX_CALLS / sketch.count)
    return {key: sketch for key, sketch in merged.sketches.items() if sketch.buckets}


def _scale(
    controlled: Controlled,
    profile: Profile,
    state: ControlState,
    report: Report,
    endpoint: Endpoint,
    minute: int,
    minutes: int,
) -> tuple[CapacityState, CapacityAction | None, list[float]]:
    """Take the minutes that have passed one by one; only the last one's action can still be carried out.

    Also return what the last minute would have cost at each size, USD.
    """
    economics = capacity_economics(
        profile,
        controlled.economics,
        topology=None if controlled.topology == AUTO else Topology(controlled.topology),
        min_instances=controlled.min_instances,
        max_instances=controlled.max_instances,
    )
    slots = by_minute(report.arrivals, minute - minutes, minutes)
    # Calls that found no instance are demand too, and known where no sandbox has reported them.
    requests = max(report.counts["requests"], endpoint.no_capacity)
    needing = max(report.counts["escalated"] + report.counts["missed"], endpoint.no_capacity)
    unreported = requests - report.counts["requests"]
    slots[-1] = [count + unreported / 60.0 for count in slots[-1]]
    capacity, action, by_size_usd = state.capacity, None, [0.0]
    for arrivals in slots:
        observation = CapacityObservation(
            interval_s=60.0,
            arrivals=arrivals,
            ready=endpoint.ready,
            starting=endpoint.starting,
            escalation_share=min(1.0, needing / requests) if requests else 0.0,
        )
        capacity, action = step(capacity, observation, economics)
        by_size_usd = interval_usd(observation, economics)
    return capacity, action, by_size_usd


def _at(by_size_usd: list[float], size: int) -> float:
    return by_size_usd[min(size, len(by_size_usd) - 1)]


def _snapshot(
    controlled: Controlled,
    release: str,
    profile: Profile,
    cascade: Cascade | None,
    state: ControlState,
    report: Report,
    endpoint: Endpoint | None,
    interval_s: float,
    now: float,
) -> Snapshot:
    default = Snapshot.from_profile(
        profile,
        controlled.economics,
        model=controlled.model,
        release=release,
        topology=state.route.topology,
        policy=controlled.policy,
        cascade=cascade,
        knobs=controlled.knobs,
        now=now,
        ttl_s=SNAPSHOT_TTL_S,
    )
    # Cold starts of the model's function fall on its calls, which where colocated are all requests.
    calls = report.counts["cpu" if state.route.topology is Topology.SPLIT else "requests"]
    cold_share = report.counts["cold"] / (calls + COLD_PRIOR)
    latencies = learned(default.latencies, state.sketches, cold_share)
    if endpoint is not None and endpoint.model_latency_ms is not None:
        latencies = with_model_latency(
            latencies, state.sketches, endpoint.model_latency_ms, endpoint.invocations, profile.network
        )
    gpu = None
    if endpoint is not None and profile.gpu is not None:
        gpu = _capacity(profile, report, endpoint, interval_s)
        latencies = replace(latencies, gpu_in_flight_seen=gpu.in_flight)
    return replace(default, version=state.snapshot_version, latencies=latencies, gpu=gpu)


def _capacity(profile: Profile, report: Report, endpoint: Endpoint, interval_s: float) -> GpuCapacity:
    if profile.gpu is None:
        raise ValueError("an endpoint needs the gpu part of a profile")
    calls, failed = report.counts["gpu"], report.counts["gpu_failed"]
    # Little's law where the service did not say: calls in flight = time spent in calls / time.
    in_flight = report.counts["gpu_busy_ms"] / 1000.0 / max(interval_s, 60.0)
    if endpoint.concurrent is not None:
        in_flight = max(in_flight, endpoint.concurrent)
    return replace(
        capacity_of(profile.gpu, endpoint.ready, endpoint.starting),
        in_flight=in_flight,
        max_in_flight=endpoint.ready * profile.gpu.max_batch * SLOTS_AHEAD,
        failing=calls >= FAILING_CALLS and failed >= FAILING_SHARE * calls,
    )
