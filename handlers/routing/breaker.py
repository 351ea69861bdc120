"""A circuit breaker as a value: it lets a path be tried, stops after failures, and probes for recovery.

    closed ──failures──▶ open ──after open_s──▶ half open ──probes succeed──▶ closed
                           ▲                        │
                           └────────a probe fails───┘

Calls and failures are counted with exponential decay, so the window needs two numbers and forgets smoothly:
an outcome counts half after `window_s / 2`. Repeated openings wait twice as long each time, up to a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from handlers.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to open and how to recover.

    It opens when at least `min_calls` (decayed) calls were seen and a share `failure_share` of them failed;
    stays open for `open_s`, doubled at each renewed opening up to `open_max_s`; closes after `probes`
    successes in a row while half open.
    """

    window_s: float = 30.0
    min_calls: float = 2.5
    failure_share: float = 0.5
    open_s: float = 5.0
    open_max_s: float = 60.0
    probes: int = 2

    def __post_init__(self) -> None:
        for name in ("window_s", "open_s", "min_calls"):
            value = getattr(self, name)
            if not 0.0 < value < inf:
                raise InvalidInput(name, value, "a finite number above 0")
        if not 0.0 < self.failure_share <= 1.0:
            raise InvalidInput("failure_share", self.failure_share, "a share above 0 and at most 1")
        if self.probes < 1 or self.open_max_s < self.open_s:
            raise InvalidInput("probes", self.probes, "at least 1, with open_max_s at least open_s")


DEFAULT_SETTINGS = BreakerSettings()


class Breaker(NamedTuple):
    """One path's breaker; times are seconds on the caller's clock.

    `open_until` is 0 while closed. Past it the breaker is half open: one probe at a time is let through
    (`probing_until` bounds how long a probe whose outcome is never reported blocks the next).
    """

    calls: float = 0.0
    failures: float = 0.0
    seen_at: float = 0.0
    open_until: float = 0.0
    openings: int = 0
    successes: int = 0
    probing_until: float = 0.0

    @property
    def closed(self) -> bool:
        """Say whether calls flow freely."""
        return self.open_until == 0.0

    def allows(self, now: float) -> bool:
        """Say whether a call may be made: freely while closed, one probe at a time while half open."""
        return self.open_until == 0.0 or (now >= self.open_until and now >= self.probing_until)

    def retry_after_s(self, now: float) -> float:
        """Return how long from `now` until a call may be made."""
        return 0.0 if self.closed else max(0.0, max(self.open_until, self.probing_until) - now)

    def started(self, now: float, settings: BreakerSettings = DEFAULT_SETTINGS) -> Breaker:
        """Return the breaker after a call was sent: while half open, that call is the probe."""
        if self.open_until == 0.0:
            return self
        return self._replace(probing_until=now + settings.open_s)

    def recorded(self, ok: bool, now: float, settings: BreakerSettings = DEFAULT_SETTINGS) -> Breaker:
        """Return the breaker after a call that went well or failed."""
        if self.open_until != 0.0:
            return self._probed(ok, now, settings)
        kept = 0.5 ** (max(0.0, now - self.seen_at) / (settings.window_s / 2.0))
        calls, failures = self.calls * kept + 1.0, self.failures * kept + (0.0 if ok else 1.0)
        if not ok and calls >= settings.min_calls and failures >= settings.failure_share * calls:
            return self._opened(now, settings)
        return Breaker(calls, failures, now, 0.0, 0 if failures < 0.01 else self.openings)

    def _probed(self, ok: bool, now: float, settings: BreakerSettings) -> Breaker:
        if now < self.open_until:
            return self  # a call from before it opened: it tells nothing new
        if not ok:
            return self._opened(now, settings)
        if self.successes + 1 >= settings.probes:
            return Breaker(openings=self.openings, seen_at=now)
        return self._replace(successes=self.successes + 1, probing_until=0.0)

    def _opened(self, now: float, settings: BreakerSettings) -> Breaker:
        wait_s = min(settings.open_s * 2.0**self.openings, settings.open_max_s)
        return Breaker(open_until=now + wait_s, openings=min(self.openings + 1, 16))


CLOSED = Breaker()
