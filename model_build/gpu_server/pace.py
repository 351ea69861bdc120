"""Time as the event loop lives it: microsecond stamps, and how long a request lay in the kernel unseen.

One round of the loop reads every connection that is ready. What becomes ready meanwhile is read in the next
round, so when rounds follow each other without a pause a request may be as old as the round before: its
arrival is dated back to that. The worker's answer to it will lie as long, and admission adds that. When the
loop itself is the bottleneck, deadlines are so judged on the caller's time and not on ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

PAUSE_S = 0.0003


class Pace:
    """The server's clock and timer on `loop`.

    `lag`: how long the latest round took, s; 0 when the loop had paused before it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lag = 0.0
        self._loop = loop
        self._turned = self._first = self._earliest = 0.0
        self._in_round = False

    def time(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], Any], /) -> asyncio.TimerHandle:
        """Call back at `when`, to the loop's millisecond."""
        return self._loop.call_later(max(0.0, when - time.monotonic()), callback)

    def arrival(self) -> float:
        """The earliest moment at which a request that is read now may have arrived."""
        if not self._in_round:
            self._in_round = True
            self._loop.call_soon(self._turn)  # runs before the loop looks for readable connections again
            now = time.monotonic()
            waited = now - self._turned > PAUSE_S  # nothing was ready, so what came now has just come
            self._earliest, self._first = (now if waited else self._first), now
            self.lag = now - self._earliest
        return self._earliest

    def _turn(self) -> None:
        self._turned, self._in_round = time.monotonic(), False
