"""The queue: requests in order of arrival, interactive ones before shadow ones, cut into parts for batches.

First come, first served within a priority, not earliest deadline first: admission promises each request a
finish time, and only an order that later arrivals cannot change keeps that promise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from model_build.gpu_server.batching import Waiting


class Priority(IntEnum):
    """Interactive requests are served first; shadow requests ride in what they leave."""

    INTERACTIVE = 0
    SHADOW = 1


@dataclass(slots=True, eq=False)
class Request:
    """One admitted request: `offsets` are its inputs' first bytes in the arena; `arrived`, `deadline` in
    seconds.

    `taken` items are in batches, `answered` have come back; `output` is the whole answer, and `rows` collects
    it for a request that was split. `finished` is called exactly once, when the last part is back or the
    request is dropped.
    """

    items: int
    offsets: tuple[int, ...]
    arrived: float
    deadline: float
    finished: Callable[[Request], None]
    priority: Priority = Priority.INTERACTIVE
    enqueued: float = 0.0
    taken: int = 0
    answered: int = 0
    output: bytes = b""
    rows: dict[int, bytes] | None = None
    nonfinite: tuple[int, ...] = ()
    error: Exception | None = None
    cancelled: bool = False
    queue_ms: float = 0.0
    model_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """`count` items of `request`, from its item `first`."""

    request: Request
    first: int
    count: int


class WaitingRoom:
    """Requests that wait for a batch."""

    def __init__(self) -> None:
        self._queues: tuple[deque[Request], deque[Request]] = (deque(), deque())
        self._items = [0, 0]
        self._tightest = math.inf

    def __len__(self) -> int:
        return len(self._queues[0]) + len(self._queues[1])

    @property
    def items(self) -> int:
        """Items that no batch has taken yet."""
        return self._items[0] + self._items[1]

    def ahead_of(self, priority: Priority) -> int:
        """Items that would be served before a new request of this priority."""
        return sum(self._items[: priority + 1])

    def add(self, request: Request) -> None:
        """Let a request wait."""
        self._queues[request.priority].append(request)
        self._items[request.priority] += request.items
        self._tightest = min(self._tightest, request.deadline)

    def remove(self, request: Request) -> None:
        """Forget the rest of a request (its client is gone). No error when it does not wait any more."""
        queue = self._queues[request.priority]
        if request in queue:
            queue.remove(request)
            self._items[request.priority] -= request.items - request.taken
            self._refresh()

    def requests(self) -> Iterator[Request]:
        """All that wait, in order of service."""
        for queue in self._queues:
            yield from queue

    def summary(self) -> Waiting:
        """What the closing rule needs; somebody must be waiting."""
        oldest = min(queue[0].enqueued for queue in self._queues if queue)
        return Waiting(self.items, oldest, self._tightest)

    def drop_late(self, start: float, seconds: Callable[[int], float]) -> list[Request]:
        """Remove and return the untouched requests that could not be answered in time any more.

        `start`: when the next batch can begin. `seconds(items)`: the time that a batch of so many takes.
        """
        if start + seconds(1) <= self._tightest:
            return []
        late: list[Request] = []
        for priority, queue in enumerate(self._queues):
            for _ in range(len(queue)):  # once round
                request = queue.popleft()
                if request.taken == 0 and start + seconds(request.items) > request.deadline:
                    late.append(request)
                    self._items[priority] -= request.items
                else:
                    queue.append(request)
        self._refresh()
        return late

    def take(self, items: int) -> list[Part]:
        """Remove up to `items` items in order of service; the last request may be split."""
        parts: list[Part] = []
        for priority, queue in enumerate(self._queues):
            while queue and items:
                request = queue[0]
                count = min(items, request.items - request.taken)
                parts.append(Part(request, request.taken, count))
                request.taken += count
                items -= count
                self._items[priority] -= count
                if request.taken == request.items:
                    queue.popleft()
        self._refresh()
        return parts

    def _refresh(self) -> None:
        self._tightest = min((request.deadline for request in self.requests()), default=math.inf)
