"""Carrying out a decision inside its one deadline: escalation, standby, hedge, retry, chunks.

The caller's thread only waits and decides; each call to the endpoint, and the CPU answer that stands by
meanwhile, run in threads of a small pool (ONNX Runtime and sockets release the GIL). Whatever the endpoint
does, the CPU answer goes out `STANDBY_MARGIN_MS` before the deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from handlers.errors import EndpointError, EndpointGarbage, EndpointThrottled, EndpointTimeout, Overloaded
from handlers.routing.policy import STANDBY_MARGIN_MS
from handlers.routing.types import Decision, Path
from handlers.serving.postprocess import Scored, merged, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.serving.paths import Attempt, CpuPath, GpuPath, Job

REASONS = {
    "EndpointAsleep": "gpu_asleep",
    "EndpointThrottled": "gpu_throttled",
    "EndpointTimeout": "gpu_late",
    "EndpointFailed": "gpu_failed",
    "EndpointGarbage": "gpu_garbage",
}
LAST_RESORT_S = 10.0


class Paths(NamedTuple):
    """The ports, the pool and the clock (s) that a race runs with; `temperature` is the gpu variant's."""

    cpu: CpuPath
    gpu: GpuPath | None
    pool: Executor
    clock: Callable[[], float]
    task: str
    temperature: float


class Answer(NamedTuple):
    """What was answered, and how it came about. Times in ms; `gpu_errors` in the order they were met."""

    scored: Scored
    path: Path
    attempts: int
    escalated_items: int = 0
    degraded: str | None = None
    cpu_ms: float | None = None
    gpu_ms: float | None = None
    gpu_errors: tuple[EndpointError, ...] = ()


def run(job: Job, decision: Decision, paths: Paths) -> Answer:
    """The answer to `job`. Raises Overloaded only when neither path gives one."""
    if decision.path is Path.GPU and paths.gpu is not None:
        return _GpuRace(job, decision, paths).run()
    return _cpu_first(job, decision, paths)


def _cpu_first(job: Job, decision: Decision, paths: Paths) -> Answer:
    started = paths.clock()
    try:
        scored = paths.cpu.attempt(job, _left_s(job, decision, started) + LAST_RESORT_S).run()
    except EndpointError as error:  # only the model's function behind a front can fail
        if paths.gpu is None:
            raise Overloaded(f"the model's function gives no answer: {error}", 1.0) from error
        return _GpuRace(job, decision, paths).run()
    now = paths.clock()
    answer = Answer(scored, Path.CPU, attempts=1, cpu_ms=(now - started) * 1000.0)
    if decision.escalate_below is not None and paths.gpu is not None:
        rows = np.flatnonzero(scored.confidence < decision.escalate_below)
        if len(rows):
            return _escalated(job, decision, paths, answer, rows)
    elif decision.degraded_below is not None and scored.confidence.min() < decision.degraded_below:
        return answer._replace(degraded=str(decision.degraded_reason or "below_confidence"))
    return answer


def _escalated(job: Job, decision: Decision, paths: Paths, answer: Answer, rows: NDArray[np.intp]) -> Answer:
    started = paths.clock()
    left_s = _left_s(job, decision, started)
    if left_s * 1000.0 < decision.gpu_needs_ms:
        return answer._replace(degraded="no_time_to_escalate")
    call = _Call(tuple(array[rows] for array in job.arrays), decision, paths, left_s, job.priority)
    wait(call.futures, timeout=left_s)
    tried = answer._replace(
        attempts=answer.attempts + len(call.futures), gpu_ms=(paths.clock() - started) * 1000.0
    )
    try:
        scored = merged(answer.scored, call.result(), rows)
    except EndpointError as error:
        return tried._replace(gpu_errors=(error,), degraded=REASONS[type(error).__name__])
    return tried._replace(scored=scored, path=Path.GPU, escalated_items=len(rows))


class _Call:
    """One call to the endpoint, in chunks where the decision says so."""

    def __init__(
        self, arrays: tuple[NDArray[Any], ...], decision: Decision, paths: Paths, left_s: float, priority: str
    ) -> None:
        gpu = paths.gpu
        if gpu is None:
            raise AssertionError("a call to the endpoint where there is none")
        self._paths = paths
        step = max(1, min(decision.chunk_items, len(arrays[0])))
        self.futures = [
            paths.pool.submit(gpu.infer, tuple(a[at : at + step] for a in arrays), left_s, priority)
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


class _GpuRace:
    """The GPU is asked, the CPU stands by; events are what `run` acts upon between waits."""

    def __init__(self, job: Job, decision: Decision, paths: Paths) -> None:
        self._job, self._decision, self._paths = job, decision, paths
        self._began = paths.clock()
        self._end = job.arrived + (decision.deadline_ms - STANDBY_MARGIN_MS) / 1000.0
        self._calls: list[_Call] = []
        self._attempts = 0
        self._errors: list[EndpointError] = []
        self._standby: Future[Scored] | None = None
        self._attempt: Attempt | None = None
        self._standby_began = 0.0
        self._standby_at = self._began + decision.standby_after_ms / 1000.0 if decision.standby else inf
        hedge = decision.hedge_after_ms
        self._hedge_at = inf if hedge is None else self._began + hedge / 1000.0
        self._retry_at = inf

    def run(self) -> Answer:
        """Wait for the first usable answer."""
        self._ask_gpu(self._began)
        while True:
            now = self._paths.clock()
            self._act(now)
            answer = self._gpu_answer() or self._standby_answer(now)
            if answer is not None:
                if self._attempt is not None:
                    self._attempt.stop()
                return answer
            self._wait(now)

    def _ask_gpu(self, now: float) -> None:
        left_s = max(0.001, self._end - now)
        call = _Call(self._job.arrays, self._decision, self._paths, left_s, self._job.priority)
        self._calls.append(call)
        self._attempts += len(call.futures)

    def _act(self, now: float) -> None:
        if now >= self._retry_at:
            self._retry_at = inf
            self._ask_gpu(now)
        if now >= self._hedge_at and self._calls:
            self._hedge_at = inf
            self._ask_gpu(now)
        lost = not self._calls and self._retry_at == inf
        if self._standby is None and (now >= min(self._standby_at, self._end) or lost):
            timeout_s = (
                max(0.0, self._job.arrived + self._decision.deadline_ms / 1000.0 - now) + LAST_RESORT_S
            )
            self._attempt = self._paths.cpu.attempt(self._job, timeout_s)
            self._standby = self._paths.pool.submit(self._attempt.run)
            self._standby_began = now
            self._attempts += 1

    def _gpu_answer(self) -> Answer | None:
        for call in [call for call in self._calls if call.settled]:
            self._calls.remove(call)
            try:
                scored = call.result()
            except EndpointError as error:
                self._errors.append(error)
                self._plan_retry(error)
                continue
            gpu_ms = (self._paths.clock() - self._began) * 1000.0
            return Answer(scored, Path.GPU, self._attempts, gpu_ms=gpu_ms, gpu_errors=tuple(self._errors))
        if not self._calls:
            self._act(self._paths.clock())
        return None

    def _plan_retry(self, error: EndpointError) -> None:
        if not isinstance(error, EndpointThrottled) or error.retry_after_s is None or self._calls:
            return
        at = self._paths.clock() + error.retry_after_s
        if at + self._decision.gpu_needs_ms / 1000.0 < self._end:
            self._retry_at = at

    def _standby_answer(self, now: float) -> Answer | None:
        hoping = (self._calls or self._retry_at < inf) and now < self._end
        if self._standby is None or not self._standby.done() or hoping:
            return None
        failure = self._standby.exception()
        if failure is not None:
            if not isinstance(failure, EndpointError):
                raise failure
            if self._calls:
                return None
            raise Overloaded(f"neither path gives an answer: {failure}", 1.0) from failure
        late = "gpu_late" if self._calls or not self._errors else REASONS[type(self._errors[-1]).__name__]
        if self._calls and not self._errors:
            self._errors.append(EndpointTimeout("no answer before the deadline"))
        return Answer(
            self._standby.result(),
            Path.CPU,
            self._attempts,
            degraded=late if self._decision.standby_degrades or self._decision.path is Path.GPU else None,
            cpu_ms=(self._paths.clock() - self._standby_began) * 1000.0,
            gpu_errors=tuple(self._errors),
        )

    def _wait(self, now: float) -> None:
        pending = [f for call in self._calls for f in call.futures if not f.done()]
        standby_done = self._standby is not None and self._standby.done()
        if self._standby is not None and not standby_done:
            pending.append(self._standby)  # type: ignore[arg-type]  # the two results differ; only waited for
        events = [self._hedge_at, self._retry_at, self._standby_at if self._standby is None else inf]
        if now < self._end:
            events.append(self._end)
        until = min(events)
        wait(pending, timeout=None if until == inf else max(0.0, until - now), return_when=FIRST_COMPLETED)


def _left_s(job: Job, decision: Decision, now: float) -> float:
    return max(0.001, job.arrived + (decision.deadline_ms - STANDBY_MARGIN_MS) / 1000.0 - now)
