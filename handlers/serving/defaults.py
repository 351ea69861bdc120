"""The snapshot that holds where the control loop has published none: made of the release and the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from handlers.routing.knobs import Knobs
from handlers.routing.types import Cascade, CurvePoint, Snapshot, Topology

if TYPE_CHECKING:
    from handlers.routing.types import Economics
    from handlers.serving.release import Served
    from handlers.settings import Settings


def default_snapshot(served: Served, settings: Settings, economics: Economics) -> Snapshot:
    """Safe without any shared store.

    A configured endpoint is taken for awake: one failed call, which the standby covers and the breaker
    remembers, is cheaper than never asking it.
    """
    has_gpu = bool(settings.endpoint)
    profile = served.profile.at(economics.model_memory_mb)
    return Snapshot.from_profile(
        profile if has_gpu else replace(profile, gpu=None),
        economics,
        model=settings.model,
        release=served.manifest.release,
        topology=Topology.SPLIT if settings.role == "front" else Topology.COLOCATED,
        policy=settings.policy,
        cascade=_cascade(served),
        knobs=Knobs.parse(settings.routing),
        gpu_ready=1 if has_gpu else 0,
    )


def _cascade(served: Served) -> Cascade | None:
    cascade = served.manifest.cascade
    if cascade is None:
        return None
    points = (CurvePoint(p.threshold, p.escalation_share, p.accuracy) for p in cascade.curve)
    curve = tuple(sorted(points, key=lambda point: point.threshold))
    return Cascade(cascade.threshold, cascade.escalation_share, cascade.accuracy, curve)
