"""One line per request, a structured log and CloudWatch metrics (EMF) at once.

Dimensions are bounded: `model` and `path` (cpu, gpu), nothing that a caller can choose; so there are at most
2 × 8 metrics a model, and 2 of its shadows. `log_share` of the lines carry the log's fields, and all of those
whose answer was degraded or late.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from handlers.serving.service import Handled
    from handlers.serving.shadow import Comparison
    from handlers.settings import Settings


class Telemetry:
    """Powertools' Logger and Metrics; the log's service is the function, the metrics' is the model."""

    def __init__(self, settings: Settings) -> None:
        self.logger = Logger(service=settings.function_name)
        self._metrics = Metrics(namespace="turnout", service=settings.model)
        self._model = settings.model
        self._log_share = settings.log_share

    def observe(self, handled: Handled) -> None:
        """Write one line that is both: EMF takes what is not a metric as it is."""
        answer, decision, metrics = handled.answer, handled.decision, self._metrics
        met = handled.actual_ms <= decision.deadline_ms
        metrics.add_dimension("model", self._model)
        metrics.add_dimension("path", answer.path.value)
        metrics.add_metric("Latency", MetricUnit.Milliseconds, handled.actual_ms)
        metrics.add_metric("Cost", MetricUnit.NoUnit, handled.cost_usd)
        metrics.add_metric("ObjectiveMet", MetricUnit.Count, int(met))
        metrics.add_metric("Degraded", MetricUnit.Count, int(answer.degraded is not None))
        metrics.add_metric("Escalated", MetricUnit.Count, answer.escalated_items)
        metrics.add_metric("Missed", MetricUnit.Count, answer.missed_items)
        if isfinite(decision.predicted_ms):
            error = abs(handled.actual_ms - decision.predicted_ms)
            metrics.add_metric("PredictionError", MetricUnit.Milliseconds, error)
        p_meet = next((o.p_meet for o in decision.options if o.path is decision.path), None)
        if p_meet is not None and isfinite(p_meet):
            # Brier score of the predicted probability to meet the deadline: 0 is perfect, 0.25 a coin.
            metrics.add_metric("CalibrationError", MetricUnit.NoUnit, (p_meet - met) ** 2)
        if not met or answer.degraded is not None or random.random() < self._log_share:  # noqa: S311 - sampling
            for key, value in _line(handled, met).items():
                metrics.add_metadata(key, value)
        metrics.flush_metrics()

    def compared(self, comparison: Comparison) -> None:
        """Write what a shadow request found; the alarm on drift watches these."""
        metrics = self._metrics
        metrics.add_dimension("model", self._model)
        metrics.add_metric("ShadowAgreement", MetricUnit.NoUnit, comparison.agreed / comparison.items)
        metrics.add_metric("ShadowDrift", MetricUnit.NoUnit, comparison.drift)
        metrics.flush_metrics()


def _line(handled: Handled, met: bool) -> dict[str, Any]:
    answer, decision = handled.answer, handled.decision
    return {
        "level": "INFO",
        "message": "answered",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "reason": decision.reason.value,
        "predicted_ms": _rounded(decision.predicted_ms),
        "actual_ms": _rounded(handled.actual_ms),
        "cost_usd": float(f"{handled.cost_usd:.6g}"),
        "confidence": _rounded(float(answer.scored.confidence.min())),
        "attempts": answer.attempts,
        "items": handled.request.items,
        "escalated_items": answer.escalated_items,
        "missed_items": answer.missed_items,
        "degraded": answer.degraded,
        "gpu_errors": [str(error)[:200] for error in answer.gpu_errors],
        "objective_met": met,
        "slo_ms": decision.deadline_ms,
        "cold_start": handled.cold,
        "caller": handled.caller,
        "release": handled.release,
    }


def _rounded(value: float) -> float | None:
    return round(value, 3) if isfinite(value) else None
