"""A Lambda function's sandboxes: warm ones are reused, newest first; others start cold or are refused."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

WARM, COLD, THROTTLED = 0, 1, 2


class Sandboxes:
    """One function's pool on a simulated clock, seconds.

    A sandbox serves one request at a time. Those whose end is known wait in a heap; idle ones are kept in
    the order of their last use, so that the newest is reused and the oldest expires. At most `limit` live
    at once, and at most `burst` start in any ten seconds (a token bucket).
    """

    __slots__ = ("_burst", "_busy", "_idle", "_keep_s", "_limit", "_refilled", "_tokens", "live", "peak")

    def __init__(self, keep_alive_s: float, limit: int, burst: int) -> None:
        self._idle: deque[float] = deque()
        self._busy: list[float] = []
        self._keep_s = keep_alive_s
        self._limit = limit
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled = 0.0
        self.live = 0
        self.peak = 0

    def acquire(self, now: float) -> int:
        """Take a sandbox: WARM, COLD (it must start first) or THROTTLED (there is none to be had)."""
        busy, idle = self._busy, self._idle
        while busy and busy[0] <= now:
            idle.append(heappop(busy))
        if idle:
            oldest = now - self._keep_s
            while idle and idle[0] < oldest:
                idle.popleft()
                self.live -= 1
            if idle:
                idle.pop()
                return WARM
        if self.live >= self._limit:
            return THROTTLED
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._burst / 10.0)
        self._refilled = now
        if self._tokens < 1.0:
            return THROTTLED
        self._tokens -= 1.0
        self.live += 1
        self.peak = max(self.peak, self.live)
        return COLD

    def hold(self, until: float) -> None:
        """Keep a sandbox that was acquired busy up to a time, past or future."""
        heappush(self._busy, until)
