"""Requests that were admitted at their head and whose body is still on its way, or being decoded.

They will stand in the queue before a request that comes now, so what that one is promised counts them. Each
counts for `PATIENCE_S` at most: a client that sends slowly keeps no other out.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from model_build.gpu_server.waiting import Priority

PATIENCE_S = 0.5


class Admitted(Protocol):
    """What a request was admitted as; `coming` is this module's own mark."""

    items: int
    priority: Priority
    admitted_at: float
    coming: bool


class Coming:
    """Counts what is on its way, by priority."""

    def __init__(self) -> None:
        self._in_order: deque[Admitted] = deque()
        self._items = [0, 0]

    def add(self, request: Admitted) -> None:
        """Admitted now, its `admitted_at`; its body is to come."""
        request.coming = True
        self._items[request.priority] += request.items
        self._in_order.append(request)

    def remove(self, request: Admitted) -> None:
        """It is here, or will not come. No error when it does not count any more."""
        if request.coming:
            request.coming = False
            self._items[request.priority] -= request.items

    def ahead_of(self, priority: Priority, now: float) -> int:
        """Items on their way that would be served before a new request of this priority."""
        waiting = self._in_order
        while waiting and (not waiting[0].coming or now - waiting[0].admitted_at > PATIENCE_S):
            self.remove(waiting.popleft())
        return sum(self._items[: priority + 1]) if waiting else 0
