"""A decision and an answer in words and numbers: response parameters, Server-Timing, `/route`."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handlers.routing.types import Decision, Economics, Option, Snapshot
    from handlers.serving.race import Answer
    from handlers.settings import Settings


def cost_usd(
    answer: Answer, decision: Decision, actual_ms: float, economics: Economics, memory_mb: int
) -> float:
    """What it cost: this function's time as measured, fees, and the rest as the decision priced it."""
    own = economics.lambda_usd(actual_ms, memory_mb)
    fees = economics.lambda_request + economics.front_door_request
    chosen = next((o for o in decision.options if o.path is answer.path), None)
    predicted_own = 0.0 if chosen is None else economics.lambda_usd(chosen.predicted_ms, memory_mb) + fees
    beyond = 0.0 if chosen is None else max(0.0, chosen.cost_usd - predicted_own)
    return own + fees + beyond


def response_parameters(
    answer: Answer, decision: Decision, release: str, actual_ms: float, spent_usd: float
) -> dict[str, Any]:
    """The answer's `parameters`; times in ms from the request's arrival in the handler."""
    parameters: dict[str, Any] = {
        "path": str(answer.path),
        "reason": str(decision.reason),
        "confidence": round(float(answer.scored.confidence.min()), 6),
        "predicted_ms": _finite(decision.predicted_ms),
        "actual_ms": round(actual_ms, 3),
        "deadline_ms": decision.deadline_ms,
        "objective_met": actual_ms <= decision.deadline_ms,
        "cost_usd": float(f"{spent_usd:.6g}"),
        "release": release,
        "degraded": answer.degraded is not None,
        "attempts": answer.attempts,
        "escalated_items": answer.escalated_items,
    }
    if answer.degraded is not None:
        parameters["degraded_reason"] = answer.degraded
    if answer.gpu_errors:
        parameters["gpu_error"] = str(answer.gpu_errors[-1])[:200]
    return parameters


def server_timing(answer: Answer, decide_ms: float, total_ms: float) -> str:
    """The Server-Timing header (W3C): durations in ms."""
    parts = [f"decide;dur={decide_ms:.3f}"]
    if answer.cpu_ms is not None:
        parts.append(f"cpu;dur={answer.cpu_ms:.3f}")
    if answer.gpu_ms is not None:
        parts.append(f"gpu;dur={answer.gpu_ms:.3f}")
    return ", ".join((*parts, f"total;dur={total_ms:.3f}"))


def decision_document(decision: Decision, snapshot: Snapshot, settings: Settings) -> dict[str, Any]:
    """What `/route` answers: the decision, and every option that was weighed."""
    return {
        "model": settings.model,
        "release": snapshot.release,
        "path": str(decision.path),
        "reason": str(decision.reason),
        "admitted": decision.admitted,
        "retry_after_s": decision.retry_after_s,
        "predicted_ms": _finite(decision.predicted_ms),
        "cost_usd": _finite(decision.cost_usd),
        "deadline_ms": decision.deadline_ms,
        "escalate_below": decision.escalate_below,
        "standby": decision.standby,
        "hedge_after_ms": decision.hedge_after_ms,
        "options": [_option(option) for option in decision.options],
        "snapshot": {
            "version": snapshot.version,
            "topology": str(snapshot.topology),
            "policy": snapshot.policy,
            "gpu_ready": None if snapshot.gpu is None else snapshot.gpu.ready,
        },
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "path": str(option.path),
        "escalates": option.escalates,
        "predicted_ms": _finite(option.predicted_ms),
        "p_meet": _finite(option.p_meet),
        "cost_usd": _finite(option.cost_usd),
        "confidence": _finite(option.confidence),
        "feasible": option.feasible,
        "reason": str(option.reason),
    }


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
