"""Snapshots as JSON: what the control loop writes and every sandbox reads, checked at both ends.

A reader trusts nothing: `from_json` raises `InvalidInput` for a body that is too large, not JSON, of another
schema, or that holds a number no prediction can be made from; the caller then goes on with the safe default
(`usable`). Latencies are rounded to six digits to keep the body small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from handlers.errors import InvalidInput

from .economics import Economics
from .latency import BatchTable, Quantiles
from .snapshot import GpuCapacity, Latencies, Snapshot, Topology, cascade_of

SCHEMA_VERSION = 1
MAX_BYTES = 64 * 1024


def usable(published: Snapshot | None, default: Snapshot, now: float) -> Snapshot:
    """Return what was published if it is for the release served here and not stale, else the default.

    Where the route is being moved, what a function predicts with is the topology that it is itself part of.
    """
    if published is None or published.stale(now) or published.release != default.release:
        return default
    if published.topology is not default.topology:
        return replace(published, topology=default.topology)
    return published


def to_json(snapshot: Snapshot) -> str:
    """Return the body to store; raises `InvalidInput` if it outgrew `MAX_BYTES`."""
    body = json.dumps(_snapshot(snapshot), separators=(",", ":"), sort_keys=True, allow_nan=False)
    if len(body) > MAX_BYTES:
        raise InvalidInput("snapshot", f"{len(body)} bytes", f"at most {MAX_BYTES} bytes")
    return body


def from_json(body: str) -> Snapshot:
    """Read `to_json`'s result; raises `InvalidInput` when it is anything else."""
    if len(body) > MAX_BYTES:
        raise InvalidInput("snapshot", f"{len(body)} bytes", f"at most {MAX_BYTES} bytes")
    try:
        raw = json.loads(body)
    except ValueError as error:
        raise InvalidInput("snapshot", body, "a JSON document") from error
    if not isinstance(raw, dict) or raw.get("schema_version") != SCHEMA_VERSION:
        raise InvalidInput("snapshot.schema_version", body, f"{SCHEMA_VERSION}")
    try:
        return _parse(raw)
    except InvalidInput:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput("snapshot", f"{type(error).__name__}: {error}", "the schema's fields") from error


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        **{name: getattr(snapshot, name) for name in _SCALARS},
        "topology": snapshot.topology.value,
        "economics": {name: getattr(snapshot.economics, name) for name in Economics.__slots__},
        "latencies": _latencies(snapshot.latencies),
        "gpu": None if snapshot.gpu is None else {n: getattr(snapshot.gpu, n) for n in GpuCapacity.__slots__},
        "cascade": None
        if snapshot.cascade is None
        else {
            "threshold": snapshot.cascade.threshold,
            "escalation_share": snapshot.cascade.escalation_share,
            "accuracy": snapshot.cascade.accuracy,
            "curve": [
                {"threshold": p.threshold, "escalation_share": p.escalation_share, "accuracy": p.accuracy}
                for p in snapshot.cascade.curve
            ],
        },
    }


def _latencies(latencies: Latencies) -> dict[str, Any]:
    return {
        "cpu": _table(latencies.cpu),
        "cpu_cold": _table(latencies.cpu_cold),
        "gpu": None if latencies.gpu is None else _table(latencies.gpu),
        "hop": _rounded(latencies.hop),
        "init_ms": latencies.init_ms,
        "cold_share": latencies.cold_share,
        "gpu_in_flight_seen": latencies.gpu_in_flight_seen,
    }


def _table(table: BatchTable) -> list[list[Any]]:
    return [[size, _rounded(curve)] for size, curve in zip(table.sizes, table.curves, strict=True)]


def _rounded(curve: Quantiles) -> list[float]:
    return [float(f"{ms:.6g}") for ms in curve.ms]


def _parse(raw: Mapping[str, Any]) -> Snapshot:
    latencies, gpu = raw["latencies"], raw["gpu"]
    return Snapshot(
        **{name: _scalar(raw, name, kind) for name, kind in _SCALARS.items()},
        topology=Topology(raw["topology"]),
        economics=Economics.parse(raw["economics"]),
        latencies=Latencies(
            cpu=_read_table(latencies["cpu"]),
            cpu_cold=_read_table(latencies["cpu_cold"]),
            gpu=None if latencies["gpu"] is None else _read_table(latencies["gpu"]),
            hop=_read_curve(latencies["hop"]),
            init_ms=_finite(latencies["init_ms"], "latencies.init_ms"),
            cold_share=_finite(latencies["cold_share"], "latencies.cold_share"),
            gpu_in_flight_seen=_finite(latencies["gpu_in_flight_seen"], "latencies.gpu_in_flight_seen"),
        ),
        gpu=None if gpu is None else _read_gpu(gpu),
        cascade=cascade_of(raw["cascade"]),
    )


def _read_gpu(raw: Mapping[str, Any]) -> GpuCapacity:
    batches = [(int(n), _finite(ms, "gpu.batch_ms")) for n, ms in raw["batch_ms"]]
    capacity = GpuCapacity(
        ready=int(_finite(raw["ready"], "gpu.ready")),
        starting=int(_finite(raw["starting"], "gpu.starting")),
        in_flight=_finite(raw["in_flight"], "gpu.in_flight"),
        max_batch=int(_finite(raw["max_batch"], "gpu.max_batch")),
        batch_ms=tuple(sorted(batches)),
        max_in_flight=int(_finite(raw["max_in_flight"], "gpu.max_in_flight")),
        failing=bool(raw["failing"]),
    )
    if not batches or capacity.max_batch < 1:
        raise InvalidInput("snapshot.gpu", raw, "at least one batch size and a max_batch of 1 or more")
    return capacity


def _read_table(raw: list[list[Any]]) -> BatchTable:
    return BatchTable(tuple(int(size) for size, _ in raw), tuple(_read_curve(curve) for _, curve in raw))


def _read_curve(raw: list[float]) -> Quantiles:
    return Quantiles(tuple(float(ms) for ms in raw))


def _finite(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0.0:
        raise InvalidInput(f"snapshot.{name}", value, "a finite number, 0 or more")
    return float(value)


def _scalar(raw: Mapping[str, Any], name: str, kind: type) -> Any:
    value = raw[name]
    if kind is str:
        if not isinstance(value, str):
            raise InvalidInput(f"snapshot.{name}", value, "a string")
        return value
    return kind(_finite(value, name))


_SCALARS: dict[str, type] = {
    "model": str,
    "release": str,
    "version": int,
    "published_at": float,
    "ttl_s": float,
    "policy": str,
    "cpu_accuracy": float,
    "gpu_accuracy": float,
    "explore_share": float,
    "shadow_share": float,
    "static_gpu_share": float,
}
