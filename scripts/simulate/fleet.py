"""The GPU endpoint: instances that start late, batch what waits for them, and get the next call when idlest.

A batch starts when an idle instance has `max_batch` calls waiting, or when the oldest has waited
`max_wait_ms`, or at once after another batch if any wait. Calls whose deadline passed while they waited are
dropped when the batch is made, as the server does. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from handlers.routing.forecast import batch_ms
from handlers.routing.snapshot import GpuCapacity

BATCH_DONE, BATCH_TIMER, INSTANCE_READY, INSTANCE_LOST = 1, 2, 3, 4

Event = tuple[float, int, int, "Instance"]


class Instance:
    """One instance: ordered, ready, perhaps retiring, ended."""

    __slots__ = ("ended", "ordered_s", "outstanding", "ready_s", "retiring", "running", "timer", "waiting")

    def __init__(self, ordered_s: float, ready_s: float) -> None:
        self.ordered_s = ordered_s
        self.ready_s = ready_s
        self.waiting: list[int] = []
        self.running: list[int] = []
        self.outstanding = 0
        self.timer = -1.0
        self.retiring = False
        self.ended = -1.0


class Fleet:
    """The instances of one endpoint. `schedule` puts (time, kind, instance) on the engine's event queue."""

    def __init__(
        self,
        capacity: GpuCapacity,
        max_wait_s: float,
        deadlines: Callable[[int], float],
        schedule: Callable[[float, int, Instance], None],
    ) -> None:
        self._batch_s = [0.0, *(batch_ms(capacity, n) / 1000.0 for n in range(1, capacity.max_batch + 1))]
        self._max_batch = capacity.max_batch
        self._max_wait_s = max_wait_s
        self._deadline = deadlines
        self._schedule = schedule
        self._idlest: list[tuple[int, int, Instance]] = []
        self._serial = 0
        self.ready: list[Instance] = []
        self.starting: list[Instance] = []
        self.every: list[Instance] = []
        self.in_flight = 0
        self.dropped: list[int] = []

    def order(self, now: float, ready_s: float) -> Instance:
        """Start one more instance, ready at `ready_s`."""
        instance = Instance(now, ready_s)
        self.every.append(instance)
        self.starting.append(instance)
        self._schedule(ready_s, INSTANCE_READY, instance)
        return instance

    def became_ready(self, instance: Instance) -> None:
        """Take it into service, unless it was cancelled while it started."""
        if instance in self.starting:
            self.starting.remove(instance)
            self.ready.append(instance)
            self._offer_as_idle(instance)

    def retire(self, now: float, count: int) -> None:
        """Give back `count` instances: those still starting first, then the idlest once they are done."""
        for _ in range(count):
            if self.starting:
                self.starting.pop().ended = now
            elif self.ready:
                instance = min(self.ready, key=lambda one: one.outstanding)
                self.ready.remove(instance)
                instance.retiring = True
                if not instance.outstanding:
                    instance.ended = now

    def lose(self, now: float, instance: Instance) -> list[int]:
        """The instance dies; returns the calls that it had."""
        if instance.ended >= 0.0 or instance in self.starting:
            return []
        if instance in self.ready:
            self.ready.remove(instance)
        instance.retiring, instance.ended = True, now
        lost = instance.running + instance.waiting
        instance.running, instance.waiting = [], []
        self.in_flight -= len(lost)
        instance.outstanding = 0
        return lost

    def call(self, request: int, now: float) -> bool:
        """Send a request to the instance with the fewest outstanding; False when there is none."""
        heap = self._idlest
        while heap:
            outstanding, _, instance = heap[0]
            if not instance.retiring and outstanding == instance.outstanding:
                break
            heappop(heap)
        else:
            return False
        heappop(heap)
        instance.outstanding += 1
        self.in_flight += 1
        self._offer_as_idle(instance)
        waiting = instance.waiting
        waiting.append(request)
        if not instance.running:
            if len(waiting) >= self._max_batch or self._max_wait_s <= 0.0:
                self._start(instance, now)
            elif len(waiting) == 1:
                instance.timer = now + self._max_wait_s
                self._schedule(instance.timer, BATCH_TIMER, instance)
        return True

    def timer(self, now: float, instance: Instance) -> None:
        """The oldest waiting call has waited long enough."""
        if instance.timer == now and not instance.running and instance.waiting:
            self._start(instance, now)

    def done(self, now: float, instance: Instance) -> list[int]:
        """A batch is done: returns its requests, and starts the next if any wait."""
        finished = instance.running
        instance.running = []
        instance.outstanding -= len(finished)
        self.in_flight -= len(finished)
        if instance.waiting:
            self._start(instance, now)
        if instance.retiring:
            if not instance.outstanding and instance.ended < 0.0:
                instance.ended = now
        else:
            self._offer_as_idle(instance)
        return finished

    def _start(self, instance: Instance, now: float) -> None:
        waiting = instance.waiting
        late = [one for one in waiting if self._deadline(one) < now] if len(waiting) > 1 else []
        if late:
            self.dropped.extend(late)
            kept = set(late)
            waiting = [one for one in waiting if one not in kept]
            instance.outstanding -= len(late)
            self.in_flight -= len(late)
        instance.running, instance.waiting = waiting[: self._max_batch], waiting[self._max_batch :]
        instance.timer = -1.0
        if instance.running:
            self._schedule(now + self._batch_s[len(instance.running)], BATCH_DONE, instance)

    def _offer_as_idle(self, instance: Instance) -> None:
        self._serial += 1
        heappush(self._idlest, (instance.outstanding, self._serial, instance))
