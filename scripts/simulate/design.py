"""A design under trial, and the snapshot that its control loop would publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from handlers.routing.snapshot import Snapshot, Topology

from .scaling import Scaler
from .scenario import Scenario


@dataclass(frozen=True, slots=True)
class Design:
    """One policy: its name, the router's policy, the topology (None: auto), the scaler, and the cascade."""

    name: str
    router: str
    topology: Topology | None
    scaler: Callable[[], Scaler]
    cascade: bool = True


def snapshot_of(scenario: Scenario, design: Design, ready: int, starting: int, now: float) -> Snapshot:
    """What the routers of this design are told while so many instances are ready and starting."""
    made = Snapshot.from_profile(
        scenario.profile,
        scenario.economics,
        topology=design.topology or (Topology.SPLIT if ready else Topology.COLOCATED),
        policy=design.router,
        cascade=scenario.cascade,
        gpu_ready=ready,
        gpu_starting=starting,
        now=now,
    )
    return made if design.cascade else replace(made, cascade=None)
