"""What a race is made of: what it runs with, the calls it makes, the answer it comes to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from handlers.errors import EndpointError, EndpointGarbage, EndpointTimeout
from handlers.routing.policy import STANDBY_MARGIN_MS
from handlers.routing.types import Decision, Path
from handlers.serving.postprocess import Scored, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.serving.paths import CpuPath, GpuPath, Job

REASONS = {
    "EndpointUnprepared": "gpu_unprepared",
    "EndpointAsleep": "gpu_asleep",
    "EndpointThrottled": "gpu_throttled",
    "EndpointTimeout": "gpu_late",
    "EndpointFailed": "gpu_failed",
    "EndpointGarbage": "gpu_garbage",
}
LAST_RESORT_S = 10.0
"""How much longer than the deadline the model's function may take when nothing else can answer."""


class Paths(NamedTuple):
    """What a race runs with: ports, pool, clock (s) and the bucket of tokens for extra calls.

    `temperature` is the gpu variant's.
    """

    cpu: CpuPath
    gpu: GpuPath | None
    pool: Executor
    clock: Callable[[], float]
    take_token: Callable[[], bool]
    task: str
    temperature: float


class Call(NamedTuple):
    """One call on a path, as its breaker and its latency sketch count it."""

    path: Path
    items: int
    ms: float
    ok: bool


class Answer(NamedTuple):
    """What was answered, and how it came about. Times in ms; `gpu_errors` in the order they were met.

    `degraded` is None or why; `missed_items` are those below the threshold that no GPU saw.
    """

    scored: Scored
    path: Path
    calls: tuple[Call, ...]
    attempts: int
    escalated_items: int = 0
    missed_items: int = 0
    degraded: str | None = None
    gpu_errors: tuple[EndpointError, ...] = ()

    @property
    def confidence(self) -> float:
        """The lowest confidence of its items."""
        confidence = self.scored.confidence
        return float(confidence.item() if len(confidence) == 1 else confidence.min())

    def followed_by(self, rest: Answer) -> Answer:
        """This answer to a batch's first items and another to the rest, as one."""
        return Answer(
            Scored(
                np.concatenate([self.scored.values, rest.scored.values]),
                np.concatenate([self.scored.confidence, rest.scored.confidence]),
            ),
            Path.GPU if Path.GPU in (self.path, rest.path) else Path.CPU,
            (*self.calls, *rest.calls),
            self.attempts + rest.attempts,
            self.escalated_items + rest.escalated_items,
            self.missed_items + rest.missed_items,
            self.degraded or rest.degraded,
            (*self.gpu_errors, *rest.gpu_errors),
        )

    def ms_on(self, path: Path) -> float | None:
        """The time of the last call on a path."""
        return next((call.ms for call in reversed(self.calls) if call.path is path), None)


class GpuCall:
    """One call to the endpoint, in chunks where the decision says so."""

    def __init__(
        self, arrays: tuple[NDArray[Any], ...], decision: Decision, paths: Paths, left: float, priority: str
    ) -> None:
        gpu = paths.gpu
        if gpu is None:
            raise AssertionError("a call to the endpoint where there is none")
        self._paths = paths
        self.began = paths.clock()
        step = max(1, min(decision.chunk_items, len(arrays[0])))
        self.futures = [
            paths.pool.submit(gpu.infer, tuple(a[at : at + step] for a in arrays), left, priority)
            for at in range(0, len(arrays[0]), step)
        ]

    @property
    def settled(self) -> bool:
        """Whether the outcome is known: all chunks are there, or one has failed."""
        return all(f.done() for f in self.futures) or any(f.done() and f.exception() for f in self.futures)

    def result(self) -> Scored:
        """The scores of all chunks in order. Raises EndpointError, EndpointTimeout if not settled."""
        for future in self.futures:
            if not future.done():
                raise EndpointTimeout("no answer before the deadline")
        raw = np.concatenate([future.result() for future in self.futures])
        if not np.isfinite(raw).all():
            raise EndpointGarbage("the answer holds NaN or infinity")
        return score(raw, self._paths.task, self._paths.temperature)


def left_s(job: Job, decision: Decision, now: float) -> float:
    """Seconds until the answer must go out, at least a millisecond."""
    return max(0.001, job.arrived + (decision.deadline_ms - STANDBY_MARGIN_MS) / 1000.0 - now)
