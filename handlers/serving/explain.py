"""A decision and an answer in words and numbers: response parameters, Server-Timing, `/route`."""

from __future__ import annotations

from math import floor, isfinite
from typing import TYPE_CHECKING, Any

import orjson

from handlers.errors import InvalidInput
from handlers.protocol.http import HttpResponse
from handlers.protocol.infer import BINARY_TYPE, HEADER_LENGTH, JSON_TYPE, encode_response
from handlers.serving.postprocess import wire_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handlers.protocol.infer import InferRequest
    from handlers.routing.types import Decision, Economics, Option, Snapshot
    from handlers.serving.calls import Answer
    from handlers.serving.manifest import Manifest
    from handlers.serving.service import Handled


def cost_usd(
    answer: Answer, decision: Decision, actual_ms: float, economics: Economics, memory_mb: int
) -> float:
    """What it cost: this function's time as measured, fees, and the rest as the decision priced it."""
    own = economics.lambda_usd(actual_ms, memory_mb)
    fees = economics.lambda_request + economics.front_door_request
    chosen = decision.taken
    if answer.path is not decision.path:
        chosen = next((o for o in decision.options if o.path is answer.path), chosen)
    predicted_own = economics.lambda_usd(chosen.predicted_ms, memory_mb) + fees
    return own + fees + max(0.0, chosen.cost_usd - predicted_own)


def infer_response(
    parsed: InferRequest, manifest: Manifest, handled: Handled, said: Mapping[str, Any]
) -> HttpResponse:
    """The answer on the wire."""
    head = {"model_name": manifest.model, "model_version": manifest.release, "parameters": said}
    if parsed.id:
        head["id"] = parsed.id
    outputs = wire_outputs(handled.answer.scored, manifest)
    body, size = encode_response(head, outputs, parsed.outputs)
    headers = {
        "content-type": JSON_TYPE if size is None else BINARY_TYPE,
        "server-timing": server_timing(handled),
    }
    if size is not None:
        headers[HEADER_LENGTH] = str(size)
    return HttpResponse(200, headers, body, binary=size is not None)


def parameters(handled: Handled) -> dict[str, Any]:
    """The answer's `parameters`, for the caller and the log; times in ms from the arrival in the handler.

    Raises InvalidInput when the model's own answer is not finite.
    """
    if not isfinite(handled.confidence):
        raise InvalidInput("inputs", "accepted", "values for which the model's answer is finite")
    answer, decision = handled.answer, handled.decision
    said: dict[str, Any] = {
        "path": str(answer.path),
        "reason": str(decision.reason),
        "confidence": _rounded(handled.confidence, 1e6),
        "predicted_ms": _rounded(decision.predicted_ms, 1e4) if isfinite(decision.predicted_ms) else None,
        "actual_ms": _rounded(handled.actual_ms, 1e3),
        "deadline_ms": decision.deadline_ms,
        "objective_met": handled.actual_ms <= decision.deadline_ms,
        "cost_usd": _rounded(handled.cost_usd, 1e12),
        "release": handled.release,
        "degraded": answer.degraded is not None,
        "attempts": answer.attempts,
        "escalated_items": answer.escalated_items,
        "cold_start": handled.cold,
    }
    if decision.gpu_items:
        said["gpu_items"] = decision.gpu_items
    if answer.degraded is not None:
        said["degraded_reason"] = answer.degraded
    if answer.gpu_errors:
        said["gpu_error"] = str(answer.gpu_errors[-1])[:200]
    return said


def server_timing(handled: Handled) -> str:
    """The Server-Timing header (W3C): durations in ms."""
    calls = "".join([f"{call.path};dur={_text(call.ms)}, " for call in handled.answer.calls])
    return f"decide;dur={_text(handled.decide_ms)}, {calls}total;dur={_text(handled.actual_ms)}"


def decision_document(decision: Decision, snapshot: Snapshot, model: str, now: float) -> dict[str, Any]:
    """What `/route` answers: the decision, and every option that was weighed."""
    return {
        "model": model,
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
            "age_s": round(now - snapshot.published_at, 1) if snapshot.version else None,
            "topology": str(snapshot.topology),
            "policy": snapshot.policy,
            "gpu_ready": None if snapshot.gpu is None else snapshot.gpu.ready,
        },
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "path": str(option.path),
        "escalates": option.escalates,
        "gpu_items": option.gpu_items,
        "predicted_ms": _finite(option.predicted_ms),
        "p_meet": _finite(option.p_meet),
        "cost_usd": _finite(option.cost_usd),
        "confidence": _finite(option.confidence),
        "feasible": option.feasible,
        "reason": str(option.reason),
    }


def _rounded(value: float, scale: float) -> float:
    """To the nearest multiple of 1/scale.

    `round` and formats such as `.3f` go by way of exact decimal digits: together 6 µs of a request.
    """
    return floor(value * scale + 0.5) / scale if isfinite(value) else value


def _text(ms: float) -> str:
    return orjson.dumps(_rounded(ms, 1e3)).decode()


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
