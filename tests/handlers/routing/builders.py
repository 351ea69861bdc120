"""Snapshots and requests for the routing tests, from the reference regimes in small."""

from __future__ import annotations

from typing import Any

from handlers.routing.types import Cascade, CurvePoint, Economics, Profile, Request, Snapshot

MEDIUM: dict[str, Any] = {
    "name": "medium",
    "cpu": {
        "memory_mb": 3072,
        "service_ms": {"p50": 300, "p95": 325, "p99": 350},
        "init_ms": 1200,
        "accuracy": 0.95,
    },
    "gpu": {
        "startup_s": 300,
        "batch_ms": {"1": 40, "2": 60, "4": 105, "8": 200},
        "max_batch": 8,
        "max_wait_ms": 20,
        "accuracy": 0.97,
    },
    "network_ms": {"p50": 4, "p99": 12},
    "escalation_share": 0.0,
}
PRICES: dict[str, float] = {
    "lambda_gb_s": 0.0000166667,
    "lambda_request": 0.0000002,
    "front_door_request": 0.000001,
    "gpu_hour": 1.41,
    "model_memory_mb": 3072,
    "front_memory_mb": 256,
}
CASCADE = Cascade(
    threshold=0.8,
    escalation_share=0.1,
    accuracy=0.965,
    curve=(CurvePoint(0.5, 0.02, 0.955), CurvePoint(0.8, 0.1, 0.965), CurvePoint(0.95, 0.4, 0.969)),
)


def snapshot(cascade: Cascade | None = None, prices: dict[str, float] | None = None, **kw: Any) -> Snapshot:
    """A published snapshot of the medium model; the endpoint sleeps unless `gpu_ready` says otherwise."""
    economics = Economics.parse({**PRICES, **(prices or {})})
    kw = {"model": "medium", "release": "0123456789abcdef", "ttl_s": 300.0, **kw}
    return Snapshot.from_profile(Profile.parse(MEDIUM), economics, cascade=cascade, **kw)


def request(**kw: Any) -> Request:
    """A request with a comfortable objective."""
    return Request(**{"latency_slo_ms": 600.0, **kw}).checked()
