"""The GPU endpoint: instances that start late, batch what waits for them, and get the next call when idlest.

A batch starts when an idle instance has `max_batch` calls waiting, or when the oldest has waited
`max_wait_ms`, or at once after another batch if any wait. A call that cannot be answered by its deadline is
refused when it comes (429), and one that would make the batch too long for another's deadline waits for the
next, as the server does; what has become hopeless in the queue is dropped. Times are seconds.
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

    __slots__ = (
        "busy_s",
        "ended",
        "ordered_s",
        "outstanding",
        "ready_s",
        "retiring",
        "running",
        "tightest",
        "timer",
        "waiting",
    )

    def __init__(self, ordered_s: float, ready_s: float) -> None:
        self.ordered_s = ordered_s
        self.ready_s = ready_s
        self.waiting: list[tuple[int, float]] = []
        self.running: list[int] = []
        self.outstanding = 0
        self.busy_s = -1.0
        self.tightest = 0.0
        self.timer = -1.0
        self.retiring = False
        self.ended = -1.0


class Fleet:
    """The instances of one endpoint. `schedule` puts (time, kind, instance) on the engine's event queue."""

    def __init__(
        self,
        capacity: GpuCapacity,
        max_wait_s: float,
        schedule: Callable[[float, int, Instance], None],
    ) -> None:
        self._batch_s = [0.0, *(batch_ms(capacity, n) / 1000.0 for n in range(1, capacity.max_batch + 1))]
        self._max_batch = capacity.max_batch
        self._max_wait_s = max_wait_s
        self._schedule = schedule
        self._idlest: list[tuple[int, int, Instance]] = []
        self._serial = 0
        self.ready: list[Instance] = []
        self.starting: list[Instance] = []
        self.every: list[Instance] = []
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
        lost = instance.running + [one for one, _ in instance.waiting]
        instance.running, instance.waiting = [], []
        instance.outstanding = 0
        return lost

    def call(self, request: int, now: float, deadline: float) -> bool:
        """Send a request to the instance with the fewest outstanding; False when it is refused."""
        heap = self._idlest
        while heap:
            outstanding, _, instance = heap[0]
            if not instance.retiring and outstanding == instance.outstanding:
                break
            heappop(heap)
        else:
            return False
        if not self._admits(instance, now, deadline):
            return False
        heappop(heap)
        instance.outstanding += 1
        self._offer_as_idle(instance)
        waiting = instance.waiting
        waiting.append((request, deadline))
        if not instance.running:
            if len(waiting) >= self._max_batch or self._max_wait_s <= 0.0:
                self._start(instance, now)
            elif len(waiting) == 1:
                instance.timer = now + self._max_wait_s
                self._schedule(instance.timer, BATCH_TIMER, instance)
        return True

    def _admits(self, instance: Instance, now: float, deadline: float) -> bool:
        """Whether a call that came now would be in time, in the batch that gathers or in the one after it."""
        full, ahead = divmod(len(instance.waiting), self._max_batch)
        begin = instance.busy_s if instance.running else now + (0.0 if ahead else self._max_wait_s)
        begin += full * self._batch_s[self._max_batch]
        tightest = min(deadline, instance.tightest) if ahead else deadline
        if begin + self._batch_s[ahead + 1] <= tightest:
            instance.tightest = tightest
            return True
        return ahead > 0 and begin + self._batch_s[ahead] + self._batch_s[self._max_batch] <= deadline

    def timer(self, now: float, instance: Instance) -> None:
        """The oldest waiting call has waited long enough."""
        if instance.timer == now and not instance.running and instance.waiting:
            self._start(instance, now)

    def done(self, now: float, instance: Instance) -> list[int]:
        """A batch is done: returns its requests, and starts the next if any wait."""
        finished = instance.running
        instance.running = []
        instance.outstanding -= len(finished)
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
        soonest = now + self._batch_s[1]
        if len(waiting) == 1 and waiting[0][1] >= soonest:
            instance.running, instance.waiting, instance.timer = [waiting[0][0]], [], -1.0
            instance.busy_s = soonest
            self._schedule(soonest, BATCH_DONE, instance)
            return
        late = [one for one, deadline in waiting if deadline < soonest]
        if late:
            self.dropped += late
            instance.outstanding -= len(late)
            waiting = [one for one in waiting if one[1] >= soonest]
        if not waiting:
            instance.running, instance.waiting, instance.timer = [], [], -1.0
            return
        taken, tightest = 1, waiting[0][1]
        while taken < len(waiting) and taken < self._max_batch:
            tightest = min(tightest, waiting[taken][1])
            if now + self._batch_s[taken + 1] > tightest:
                break
            taken += 1
        instance.running = [one for one, _ in waiting[:taken]]
        instance.waiting = waiting[taken:]
        instance.tightest = min((deadline for _, deadline in instance.waiting), default=0.0)
        instance.timer = -1.0
        if instance.running:
            instance.busy_s = now + self._batch_s[len(instance.running)]
            self._schedule(instance.busy_s, BATCH_DONE, instance)

    def _offer_as_idle(self, instance: Instance) -> None:
        self._serial += 1
        heappush(self._idlest, (instance.outstanding, self._serial, instance))
