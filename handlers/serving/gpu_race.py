"""The GPU is asked and the CPU stands by: hedge, retry and standby are events between waits."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, wait
from math import inf
from typing import TYPE_CHECKING, Any

from handlers.errors import (
    EndpointError,
    EndpointFailed,
    EndpointThrottled,
    EndpointTimeout,
    EndpointUnprepared,
    Overloaded,
)
from handlers.routing.policy import STANDBY_MARGIN_MS, gpu_within_ms
from handlers.routing.tokens import Tokens, retry_delay_ms
from handlers.routing.types import Path
from handlers.serving.calls import LAST_RESORT_S, REASONS, Answer, Call, GpuCall, left_s

if TYPE_CHECKING:
    from handlers.routing.types import Decision
    from handlers.serving.calls import Paths
    from handlers.serving.paths import Attempt, Job
    from handlers.serving.postprocess import Scored

RETRIED = (EndpointThrottled, EndpointFailed)


class GpuRace:
    """One request on the GPU path, from the first call to the first usable answer."""

    def __init__(self, job: Job, decision: Decision, paths: Paths) -> None:
        self._job, self._decision, self._paths = job, decision, paths
        began = paths.clock()
        self._began = began
        self._end = job.arrived + (decision.deadline_ms - STANDBY_MARGIN_MS) / 1000.0
        self._calls: list[GpuCall] = []
        self._seen: list[Call] = []
        self._errors: list[EndpointError] = []
        self._attempts = self._retries = 0
        self._standby: Future[Scored] | None = None
        self._attempt: Attempt | None = None
        self._standby_began = 0.0
        self._standby_at = began + decision.standby_after_ms / 1000.0 if decision.standby else inf
        hedge = decision.hedge_after_ms
        self._hedge_at = inf if hedge is None else began + hedge / 1000.0
        self._retry_at = inf

    def run(self) -> Answer:
        """Wait for the first usable answer. Raises Overloaded when neither path gives one."""
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
        left = left_s(self._job, self._decision, now)
        # Where a standby is as good, a GPU answer after it is not worth its price: the endpoint is told to
        # refuse at once what it cannot answer before.
        before_s = self._began + gpu_within_ms(self._decision) / 1000.0 - now
        if self._decision.standby and not self._decision.standby_degrades and before_s > 0.0:
            left = max(0.001, min(left, before_s))
        call = GpuCall(self._job.arrays, self._decision, self._paths, left, self._job.priority)
        self._calls.append(call)
        self._attempts += len(call.futures)

    def _act(self, now: float) -> None:
        if now >= self._retry_at:
            self._retry_at = inf
            self._ask_gpu(now)
        if now >= self._hedge_at:
            self._hedge_at = inf
            if self._calls and self._paths.take_token():
                self._ask_gpu(now)
        lost = not self._calls and self._retry_at == inf
        if self._standby is None and (now >= min(self._standby_at, self._end) or lost):
            self._attempt = self._paths.cpu.attempt(self._job, max(0.0, self._end - now) + LAST_RESORT_S)
            self._standby = self._paths.pool.submit(self._attempt.run)
            self._standby_began = now
            self._attempts += 1

    def _gpu_answer(self) -> Answer | None:
        for call in [call for call in self._calls if call.settled]:
            self._calls.remove(call)
            ms = (self._paths.clock() - call.began) * 1000.0
            try:
                scored = call.result()
            except EndpointError as error:
                self._errors.append(error)
                if not isinstance(error, EndpointUnprepared):  # which says nothing of the endpoint
                    self._seen.append(Call(Path.GPU, self._job.items, ms, ok=False))
                self._plan_retry(error)
                continue
            seen = (*self._seen, Call(Path.GPU, self._job.items, ms, ok=True))
            return Answer(scored, Path.GPU, seen, self._attempts, gpu_errors=tuple(self._errors))
        if not self._calls:
            self._act(self._paths.clock())
        return None

    def _plan_retry(self, error: EndpointError) -> None:
        if self._calls or not isinstance(error, RETRIED):
            return
        now = self._paths.clock()
        asked = error.retry_after_s if isinstance(error, EndpointThrottled) else None
        delay = retry_delay_ms(
            Tokens(),
            (self._end - now) * 1000.0,
            self._decision.gpu_needs_ms,
            None if asked is None else asked * 1000.0,
            self._retries,
        )
        if delay is not None and self._paths.take_token():
            self._retries += 1
            self._retry_at = now + delay / 1000.0

    def _as_good(self) -> bool:
        """Whether the standby's answer is there and no worse than what the GPU's would count for."""
        if self._decision.standby_degrades or self._standby is None or not self._standby.done():
            return False
        if self._standby.exception() is not None:
            return False
        below = self._decision.degraded_below
        return below is None or bool(self._standby.result().confidence.min() >= below)

    def _standby_answer(self, now: float) -> Answer | None:
        hoping = (self._calls or self._retry_at < inf) and now < self._end and not self._as_good()
        if self._standby is None or not self._standby.done() or hoping:
            return None
        failure = self._standby.exception()
        if failure is not None:
            if not isinstance(failure, EndpointError):
                raise failure
            if self._calls:
                return None
            raise Overloaded(f"neither path gives an answer: {failure}", 1.0) from failure
        now = self._paths.clock()
        if self._calls and now >= self._end:
            self._errors.append(EndpointTimeout("no answer before the deadline"))
            waited = (now - self._calls[0].began) * 1000.0
            self._seen.append(Call(Path.GPU, self._job.items, waited, ok=False))
        self._seen.append(Call(Path.CPU, self._job.items, (now - self._standby_began) * 1000.0, ok=True))
        degrades = self._decision.standby_degrades or self._decision.path is Path.CPU
        return Answer(
            self._standby.result(),
            Path.CPU,
            tuple(self._seen),
            self._attempts,
            missed_items=self._job.items if degrades else 0,
            degraded=REASONS[type(self._errors[-1]).__name__] if degrades else None,
            gpu_errors=tuple(self._errors),
        )

    def _wait(self, now: float) -> None:
        pending: list[Future[Any]] = [f for call in self._calls for f in call.futures if not f.done()]
        if self._standby is not None and not self._standby.done():
            pending.append(self._standby)
        events = [self._hedge_at, self._retry_at, self._standby_at if self._standby is None else inf]
        if now < self._end:
            events.append(self._end)
        until = min(events)
        wait(pending, timeout=None if until == inf else max(0.0, until - now), return_when=FIRST_COMPLETED)
