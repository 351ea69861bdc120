"""Carrying out a decision inside its one deadline: CPU first, and the GPU for the items that need it.

The caller's thread only waits and decides; each call to the endpoint, and the CPU answer that stands by
meanwhile, run in threads of a small pool (ONNX Runtime and sockets release the GIL). Whatever the endpoint
does, the CPU answer goes out `STANDBY_MARGIN_MS` before the deadline.
"""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING

import numpy as np

from handlers.errors import (
    EndpointError,
    EndpointThrottled,
    EndpointTimeout,
    EndpointUnprepared,
    Overloaded,
)
from handlers.routing.types import CPU, GPU, Decision
from handlers.serving.calls import LAST_RESORT_S, REASONS, Answer, Call, GpuCall, Paths, left_s
from handlers.serving.gpu_race import GpuRace
from handlers.serving.postprocess import merged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.serving.paths import Job


def run(job: Job, decision: Decision, paths: Paths) -> Answer:
    """The answer to `job`. Raises Overloaded only when neither path gives one."""
    if decision.gpu_items and paths.gpu is not None:
        return _shared(job, decision, paths)
    if decision.path is GPU and paths.gpu is not None:
        return _asked_again(job, decision, paths, GpuRace(job, decision, paths).run())
    started = paths.clock()
    try:
        scored = paths.cpu.answer(job, left_s(job, decision, started) + LAST_RESORT_S)
    except EndpointError as error:  # only the model's function behind a front can fail
        if paths.gpu is None:
            raise Overloaded(f"the model's function gives no answer: {error}", 1.0) from error
        return GpuRace(job, decision, paths).run()
    call = Call(CPU, job.items, (paths.clock() - started) * 1000.0, True)
    answer = Answer(scored, CPU, (call,), 1)
    threshold = decision.degraded_below if decision.escalate_below is None else decision.escalate_below
    if threshold is None:
        return answer
    if not answer.confidence < threshold:  # a confidence that is no number is not a low one
        return answer
    rows = np.flatnonzero(scored.confidence < threshold)
    if decision.escalate_below is not None and paths.gpu is not None:
        return _escalated(job, decision, paths, answer, rows)
    reason = str(decision.degraded_reason or "below_confidence")
    return answer._replace(degraded=reason, missed_items=len(rows))


def _shared(job: Job, decision: Decision, paths: Paths) -> Answer:
    """A batch's first items on the GPU, the rest on the CPU at the same time."""
    at = decision.gpu_items
    own = decision._replace(path=CPU, gpu_items=0)
    rest = paths.pool.submit(run, job.part(at, job.items), own, paths)
    first = run(job.part(0, at), decision._replace(gpu_items=0), paths)
    return first.followed_by(rest.result())


def _asked_again(job: Job, decision: Decision, paths: Paths, answer: Answer) -> Answer:
    """The standby answered: unsure items ask once more if the GPU had no room, or was given little time."""
    if answer.path is GPU or decision.standby_degrades or decision.degraded_below is None:
        return answer
    rows = np.flatnonzero(answer.scored.confidence < decision.degraded_below)
    if not len(rows) or not answer.gpu_errors:
        return answer
    error = answer.gpu_errors[-1]
    hurried = isinstance(error, EndpointTimeout | EndpointUnprepared) and (
        left_s(job, decision, paths.clock()) * 1000.0 >= decision.gpu_needs_ms
    )
    if hurried or isinstance(error, EndpointThrottled):
        return _escalated(job, decision, paths, answer, rows)
    return answer._replace(degraded=REASONS[type(error).__name__], missed_items=len(rows))


def _escalated(job: Job, decision: Decision, paths: Paths, answer: Answer, rows: NDArray[np.intp]) -> Answer:
    started = paths.clock()
    left = left_s(job, decision, started)
    if left * 1000.0 < decision.gpu_needs_ms:
        return answer._replace(degraded="no_time_to_escalate", missed_items=len(rows))
    call = GpuCall(tuple(array[rows] for array in job.arrays), decision, paths, left, job.priority)
    wait(call.futures, timeout=left)
    error: EndpointError | None = None
    try:
        scored = merged(answer.scored, call.result(), rows)
    except EndpointError as met:
        error = met
    calls = answer.calls
    if not isinstance(error, EndpointUnprepared):  # which says nothing of the endpoint
        calls = (*calls, Call(GPU, len(rows), (paths.clock() - started) * 1000.0, ok=error is None))
    tried = answer._replace(calls=calls, attempts=answer.attempts + len(call.futures))
    if error is not None:
        reason = REASONS[type(error).__name__]
        return tried._replace(gpu_errors=(*answer.gpu_errors, error), degraded=reason, missed_items=len(rows))
    return tried._replace(scored=scored, path=GPU, escalated_items=len(rows))
