"""One release being served: its queue, its workers, and the moment at which each batch leaves.

Everything is decided by the pure rules of `batching` on what is known now; this file only keeps the books.
The clock, the timer and the workers' `send` are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from handlers.errors import EndpointFailed, EndpointTimeout, InvalidInput, Refused
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.batching import Curve, close_time, finish_time, round_down
from model_build.gpu_server.lane import DEPTH, Batch, Lane
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.spec import GraphSpec
from model_build.gpu_server.waiting import Part, Priority, Request, WaitingRoom

LEAD_S = 0.001
MARGIN_S = 0.0005
RESERVE = 1.15  # promises rest on what batches took lately; in a full queue promising less costs nothing
RESTART_S = 5.0
SMOOTHING = 0.2


class Timer(Protocol):
    """A call that can be taken back."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """The event loop's clock and timer; `lag`: how long an answer that is back now lies unseen, s."""

    lag: float

    def time(self) -> float:
        """Seconds, monotonic."""

    def call_at(self, when: float, callback: Callable[[], Any], /) -> Timer:
        """Call back at `when`."""


class Engine:
    """Admits, queues, batches and answers the requests of one release."""

    def __init__(
        self,
        spec: GraphSpec,
        arena: Arena,
        curve: Curve,
        max_wait_s: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.spec = spec
        self.curve = curve
        self.waiting = WaitingRoom()
        self._arena = arena
        self._max_wait = max_wait_s
        self._clock = clock
        self._metrics = metrics
        self._lanes: list[Lane] = []
        self._timer: Timer | None = None
        self._wake = 0.0
        self._number = 0
        self._idle: deque[Callable[[], None]] = deque()
        self._expected = 0
        self._joined, self._joining_per_s, self._counted_at = 0, 0.0, clock.time()

    @property
    def lanes(self) -> Sequence[Lane]:
        """The workers that are alive."""
        return self._lanes

    @property
    def busy(self) -> bool:
        """Whether anything is expected, waits or is under way."""
        return self._expected > 0 or len(self.waiting) > 0 or any(lane.batches for lane in self._lanes)

    def now(self) -> float:
        """The clock's time, s."""
        return self._clock.time()

    def too_late(
        self, items: int, deadline: float, priority: Priority, now: float, coming: int = 0
    ) -> float | None:
        """The predicted wait in s of a request that cannot be answered by `deadline`, None when it can.

        `coming`: items that will be queued before it. Costs a microsecond. Raises Refused without a worker.
        """
        if not self._lanes:
            raise Refused("no worker is ready; see /ping", RESTART_S)
        free_at = min([lane.free_at(now) for lane in self._lanes])
        ahead = self.waiting.ahead_of(priority) + coming
        finish = finish_time(now, free_at, ahead, items, self.curve, len(self._lanes), self._joining_per_s)
        wait = finish + self._clock.lag - now
        return wait if now + wait * RESERVE + MARGIN_S > deadline else None

    def expect(self) -> None:
        """A request is being decoded elsewhere; `came` follows, and until then the engine is not idle."""
        self._expected += 1

    def came(self) -> None:
        """What was expected was submitted, or will not be."""
        self._expected -= 1
        self._tell_idle()

    def submit(self, request: Request) -> None:
        """Queue an admitted request, `enqueued` now."""
        self.waiting.add(request)
        self._joined += request.items
        if self._timer is not None and self.waiting.items < self.curve.max_batch:
            must_start = request.deadline - self._seconds(self.waiting.items) - MARGIN_S
            if self._wake <= must_start:
                return  # the batch is not full, and closes in time anyway
        self.pump()

    def cancel(self, request: Request) -> None:
        """The client is gone: free its place; parts under way are ignored when they come back."""
        request.cancelled = True
        self.waiting.remove(request)
        if request.taken == request.answered:
            self._finish(request)

    def pump(self) -> None:
        """Send every batch that should leave now, and set the timer for the next."""
        now = self._clock.time()
        start = min([lane.free_at(now) for lane in self._lanes], default=now)
        for late in self.waiting.drop_late(start + self._clock.lag, self._seconds):
            late.error = EndpointTimeout(
                f"the deadline passed after {(now - late.arrived) * 1000:.1f} ms in the queue"
            )
            self._metrics.dropped += 1
            self._finish(late)
        while len(self.waiting):
            free = [lane for lane in self._lanes if len(lane.batches) < DEPTH]
            if not free:
                for lane in self._lanes:
                    if lane.due <= now:
                        lane.collect()  # comes back through `on_reply`, which pumps
                return
            lane = free[0] if len(free) == 1 else min(free, key=lambda lane: lane.free_at(now))
            summary = self.waiting.summary()
            when = close_time(summary, self.curve, self._max_wait, MARGIN_S)
            if summary.items < self.curve.max_batch and lane.batches:
                when = max(when, lane.free_at(now) - LEAD_S)
            if when > now:
                self._wake_at(when)
                return
            self._dispatch(lane, now)

    def _wake_at(self, when: float) -> None:
        """Pump again at `when`; a timer that is set for no later than that serves as well."""
        if self._timer is not None:
            if self._wake <= when:
                return
            self._timer.cancel()
        self._wake, self._timer = when, self._clock.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _seconds(self, items: int) -> float:
        return self.curve.seconds(min(items, self.curve.max_batch))

    def _dispatch(self, lane: Lane, now: float) -> None:
        parts = self.waiting.take(round_down(self.waiting.items, self.curve))
        items = sum(part.count for part in parts)
        self._number += 1
        batch = Batch(parts, items, lane.outs.pop())
        lane.due = max(now, lane.free_at(now)) + self.curve.seconds(items)
        lane.batches[self._number] = batch
        row_bytes = [tensor.row_bytes for tensor in self.spec.inputs]
        places = [
            [
                part.count,
                *(at + part.first * size for at, size in zip(part.request.offsets, row_bytes, strict=True)),
            ]
            for part in parts
        ]
        for part in parts:
            if part.first == 0:
                part.request.queue_ms = (now - part.request.enqueued) * 1000
                self._metrics.queue_ms.observe(part.request.queue_ms)
        lane.send({"batch": self._number, "items": items, "out": batch.out, "parts": places})

    def _count_joined(self, now: float) -> None:
        """The rate at which items join the queue, from one batch's answer to the next, smoothed."""
        elapsed = max(now - self._counted_at, MARGIN_S)
        self._joining_per_s += SMOOTHING * (self._joined / elapsed - self._joining_per_s)
        self._joined, self._counted_at = 0, now

    def on_reply(self, lane: Lane, reply: dict[str, Any]) -> None:
        """A batch came back: hand out its rows, learn from its time, send the next."""
        batch = lane.batches.pop(reply["batch"])
        self._count_joined(self._clock.time())
        self.curve = self.curve.observed(batch.items, reply["ms"]) if not reply["errors"] else self.curve
        if reply["max_batch"] is not None and reply["max_batch"] < self.curve.max_batch:
            self.curve = self.curve.limited(reply["max_batch"])
            self._metrics.out_of_memory += 1
        self._metrics.batch_items.observe(batch.items)
        self._metrics.model_ms.observe(reply["ms"])
        if lane.batches:
            following = next(iter(lane.batches.values()))
            lane.due = self._clock.time() + self.curve.seconds(following.items)
        errors = dict(reply["errors"])
        row, size = 0, self.spec.output.row_bytes
        finished: list[Request] = []
        for part in batch.parts:
            request, at = part.request, batch.out + row * size
            data = bytes(self._arena.memory[at : at + part.count * size])
            if part.count == request.items:
                request.output = data
            else:
                request.rows = request.rows or {}
                request.rows[part.first] = data
            if errors or reply["nonfinite"]:
                self._mark(part, row, errors, reply)
            request.model_ms += reply["ms"]
            request.answered += part.count
            row += part.count
            if request.answered == request.items or (request.cancelled and request.answered == request.taken):
                finished.append(request)
        lane.outs.append(batch.out)
        self.pump()
        for request in finished:
            if request.rows:
                request.output = b"".join(request.rows[first] for first in sorted(request.rows))
            self._finish(request)

    def _mark(self, part: Part, row: int, errors: dict[int, str], reply: dict[str, Any]) -> None:
        """Note what went wrong with the items of `part`, whose first row is `row`."""
        request, span = part.request, range(row, row + part.count)
        failed = [index for index in span if index in errors]
        if failed and request.error is None:
            where = f"item {part.first + failed[0] - row}"
            out_of_memory = reply["max_batch"] is not None
            request.error = model_error(where, errors[failed[0]], out_of_memory=out_of_memory)
            self._metrics.failed += 1
        bad = [part.first + index - row for index in reply["nonfinite"] if index in span]
        request.nonfinite += tuple(bad)
        self._metrics.nonfinite += len(bad)

    def add_lane(self, lane: Lane) -> None:
        """A worker is ready."""
        self._lanes.append(lane)
        self.pump()

    def lose_lane(self, lane: Lane, reason: str) -> None:
        """A worker died: what it held fails now (the caller has an answer of its own at hand)."""
        if lane in self._lanes:
            self._lanes.remove(lane)
        for batch in lane.batches.values():
            for part in batch.parts:
                self.waiting.remove(part.request)
                part.request.error = Refused(reason, RESTART_S)
                part.request.answered = part.request.taken
                self._finish(part.request)
        lane.batches.clear()
        if not self._lanes:
            for request in list(self.waiting.requests()):
                self.waiting.remove(request)
                request.error = Refused(reason, RESTART_S)
                self._finish(request)

    def on_idle(self, callback: Callable[[], None]) -> None:
        """Call back once, as soon as nothing waits or is under way."""
        self._idle.append(callback)
        self._tell_idle()

    def _finish(self, request: Request) -> None:
        finished, request.finished = request.finished, _nothing
        finished(request)
        self._tell_idle()

    def _tell_idle(self) -> None:
        while self._idle and not self.busy:
            self._idle.popleft()()


def model_error(where: str, text: str, *, out_of_memory: bool) -> Exception:
    """The error of a request whose item made the model raise.

    It is the input's fault: others of its batch passed, or the worker proved with another input that the
    model is sound (a worker that cannot ends itself). Only memory is the server's fault.
    """
    if out_of_memory:
        return EndpointFailed(f"the model raised on {where}: {text}")
    return InvalidInput(where, text, "an input that the model can run")


def _nothing(request: Request) -> None:
    """A request finishes once."""
