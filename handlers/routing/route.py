"""Where the router should run, under the topology `auto`: moves of the API's route, with hysteresis.

    colocated ──first instance ready──▶ split ──about to go to zero, or none left──▶ colocated

Leaving split comes before the last instance goes: the removal is held back until the route has been colocated
for `DRAIN_S`, longer than any request may take, so none is lost. Going to split waits for `HOLD_S` since the
last move, so an endpoint that comes and goes does not move the route each minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from .snapshot import Topology

DRAIN_S = 45.0
HOLD_S = 180.0
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Route:
    """The topology that the API's route leads to, and since when (epoch s; 0: since the deployment)."""

    topology: Topology = Topology.COLOCATED
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class RouteMove:
    """The route from now on, and the instances that may be asked for meanwhile."""

    route: Route
    target: int
    moved: bool
    reason: str


def step_route(configured: str, route: Route, ready: int, target: int, now: float) -> RouteMove:
    """Return what to do with the route when capacity has `ready` instances and wants `target`."""
    if configured != AUTO:
        return RouteMove(Route(Topology(configured), route.since), target, False, "fixed")
    age_s = now - route.since
    if route.topology is Topology.COLOCATED:
        if target > 0 and ready > 0 and age_s >= HOLD_S:
            return RouteMove(Route(Topology.SPLIT, now), target, True, "first_instance_ready")
        if target == 0 and ready > 0 and age_s < DRAIN_S:
            return RouteMove(route, 1, False, "draining")
        return RouteMove(route, target, False, "hold")
    if ready == 0:
        return RouteMove(Route(Topology.COLOCATED, now), target, True, "no_instance_left")
    if target == 0:
        return RouteMove(Route(Topology.COLOCATED, now), 1, True, "before_the_last_instance_goes")
    return RouteMove(route, target, False, "hold")
