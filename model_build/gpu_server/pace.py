"""Time as the event loop lives it: microsecond stamps, and how long a request lay in the kernel unseen.

uvloop stamps an iteration once, to the millisecond. A request that became readable while the last iteration
was busy waited for at most that iteration and the part of this one that has passed, so its arrival is dated
back by
both: when the loop itself is the bottleneck, deadlines are judged on the caller's time and not on ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Pace:
    """The server's clock and timer on `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._iteration = loop.time()
        self._last = time.monotonic()
        self._busy_before = 0.0

    def time(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], Any], /) -> asyncio.TimerHandle:
        """Call back at `when`, to the loop's millisecond."""
        return self._loop.call_later(max(0.0, when - time.monotonic()), callback)

    def arrival(self) -> float:
        """The earliest moment at which a request that is read now may have arrived."""
        now, iteration = time.monotonic(), self._loop.time()
        if iteration != self._iteration:
            self._busy_before = max(0.0, self._last - self._iteration)
            self._iteration = iteration
        self._last = now
        return min(now, iteration) - self._busy_before
