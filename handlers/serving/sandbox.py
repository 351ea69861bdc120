"""What this sandbox has seen: breakers and hedge tokens, moved on by each answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from handlers.routing.breaker import CLOSED
from handlers.routing.types import Local, Path

if TYPE_CHECKING:
    from handlers.routing.types import Decision
    from handlers.serving.race import Answer

HEDGE_SHARE = 0.02
HEDGE_BURST = 2.0


class Sandbox:
    """Mutable shell around the router's immutable `Local`; `now` is seconds on one monotonic clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cpu_breaker = CLOSED
        self._gpu_breaker = CLOSED
        self._hedge_tokens = 0.0

    def view(self) -> Local:
        """What `decide` gets to see."""
        return Local(
            cpu_breaker=self._cpu_breaker, gpu_breaker=self._gpu_breaker, hedge_tokens=self._hedge_tokens
        )

    def started(self, decision: Decision, now: float) -> None:
        """A decision is about to be carried out."""
        with self._lock:
            if decision.path is Path.GPU:
                self._gpu_breaker = self._gpu_breaker.started(now)
                self._hedge_tokens = min(HEDGE_BURST, self._hedge_tokens + HEDGE_SHARE)

    def answered(self, answer: Answer, now: float) -> None:
        """An answer went out: errors and successes of the endpoint move its breaker."""
        with self._lock:
            for _ in answer.gpu_errors:
                self._gpu_breaker = self._gpu_breaker.recorded(False, now)
            if answer.path is Path.GPU:
                self._gpu_breaker = self._gpu_breaker.recorded(True, now)
