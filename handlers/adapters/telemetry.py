"""One structured log line and one set of EMF metrics per request.

Dimensions are bounded: `model`, `path` (cpu, gpu) and nothing that a caller can choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

if TYPE_CHECKING:
    from handlers.serving.service import Handled
    from handlers.settings import Settings


class Telemetry:
    """Powertools' Logger and Metrics, named by POWERTOOLS_SERVICE_NAME and POWERTOOLS_METRICS_NAMESPACE."""

    def __init__(self, settings: Settings) -> None:
        self.logger = Logger(service=settings.function_name)
        self._metrics = Metrics(namespace="turnout", service=settings.model)
        self._model = settings.model

    def observe(self, handled: Handled) -> None:
        """Write both, to standard output."""
        answer, decision = handled.answer, handled.decision
        met = handled.actual_ms <= decision.deadline_ms
        error_ms = abs(handled.actual_ms - decision.predicted_ms)
        self.logger.info(
            "answered",
            path=str(answer.path),
            reason=str(decision.reason),
            predicted_ms=decision.predicted_ms,
            actual_ms=handled.actual_ms,
            cost_usd=handled.cost_usd,
            confidence=float(answer.scored.confidence.min()),
            attempts=answer.attempts,
            escalated_items=answer.escalated_items,
            items=handled.request.items,
            degraded=answer.degraded,
            objective_met=met,
            slo_ms=decision.deadline_ms,
            caller=handled.caller,
            release=handled.release,
        )
        metrics = self._metrics
        metrics.add_dimension("model", self._model)
        metrics.add_dimension("path", str(answer.path))
        metrics.add_metric("Latency", MetricUnit.Milliseconds, handled.actual_ms)
        metrics.add_metric("PredictionError", MetricUnit.Milliseconds, error_ms)
        metrics.add_metric("Cost", MetricUnit.NoUnit, handled.cost_usd)
        metrics.add_metric("ObjectiveMet", MetricUnit.Count, int(met))
        metrics.add_metric("Degraded", MetricUnit.Count, int(answer.degraded is not None))
        metrics.add_metric("Escalated", MetricUnit.Count, int(answer.escalated_items > 0))
        metrics.add_metric("Attempts", MetricUnit.Count, answer.attempts)
        metrics.flush_metrics()
