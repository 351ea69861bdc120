"""Latency as a distribution: quantile curves, their sums and mixtures, and tables of them by batch size.

A curve holds the latency in ms at fixed levels of probability. Between levels it is linear in
``u = -ln(1 - q)``, the scale on which an exponential tail is a straight line, and above the last level it
goes on along the last segment. Nothing here works with means, except `Quantiles.mean_ms`, which costs need.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, exp, inf, log
from operator import add

LEVELS: tuple[float, ...] = (0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
_U = tuple(-log(1.0 - q) for q in LEVELS)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A latency distribution: `ms[i]` is its quantile at `LEVELS[i]`, in ms, never decreasing."""

    ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.ms) != len(LEVELS):
            raise ValueError(f"ms: {len(self.ms)} values; allowed: one for each level of {LEVELS}")
        if not all(0.0 <= value < inf for value in self.ms) or list(self.ms) != sorted(self.ms):
            raise ValueError(f"ms: {self.ms}; allowed: finite, not negative, not decreasing")

    @classmethod
    def constant(cls, ms: float) -> Quantiles:
        """Return the distribution of a time that does not vary."""
        return cls((ms,) * len(LEVELS))

    @classmethod
    def rising(cls, ms: Iterable[float]) -> Quantiles:
        """Return a curve through values that rise but for rounding."""
        return cls(tuple(accumulate(ms, max)))

    @classmethod
    def from_percentiles(cls, p50: float, p95: float, p99: float) -> Quantiles:
        """Fill a curve from three percentiles (ms).

        Above the median it interpolates on the exponential scale; below it mirrors the upper half in the
        logarithm, as a log-normal body would.
        """
        p95, p99 = max(p50, p95), max(p50, p95, p99)
        anchors = ((log(2.0), p50), (-log(0.05), p95), (-log(0.01), p99))
        upper = [_along(anchors, u) for u in _U[2:]]
        mirrored = [p50 * p50 / upper[4] if upper[4] else 0.0, p50 * p50 / upper[1] if upper[1] else 0.0]
        return cls.rising((*mirrored, *upper))

    def at(self, q: float) -> float:
        """Return the latency in ms that a share `q` (0 <= q < 1) of calls stays within."""
        u = -log(1.0 - q)
        if u <= _U[0]:
            return self.ms[0]
        i = min(bisect_right(_U, u), len(_U) - 1)
        low, high = self.ms[i - 1], self.ms[i]
        return low + (high - low) * (u - _U[i - 1]) / (_U[i] - _U[i - 1])

    def share_within(self, ms: float) -> float:
        """Return the share of calls (0..1) that take at most `ms`."""
        i = bisect_right(self.ms, ms)
        if i == 0:
            return 0.0
        if i == len(LEVELS):
            i -= 1  # the tail goes on along the last segment
            if self.ms[i] == self.ms[i - 1]:
                return 1.0
        low, high = self.ms[i - 1], self.ms[i]
        return 1.0 - exp(-(_U[i - 1] + (_U[i] - _U[i - 1]) * (ms - low) / (high - low)))

    def mean_ms(self) -> float:
        """Return the mean in ms, integrating the curve exactly, tail included."""
        total = self.ms[0] * LEVELS[0]
        slope = 0.0
        for i in range(1, len(_U)):
            slope = (self.ms[i] - self.ms[i - 1]) / (_U[i] - _U[i - 1])
            mass = LEVELS[i] - LEVELS[i - 1]
            total += self.ms[i - 1] * mass
            total += slope * (mass - (_U[i] - _U[i - 1]) * (1.0 - LEVELS[i]))
        return total + (1.0 - LEVELS[-1]) * (self.ms[-1] + slope)

    def plus(self, other: Quantiles) -> Quantiles:
        """Add level by level: exact for times that rise together, an overestimate of the tail otherwise."""
        return Quantiles(tuple(map(add, self.ms, other.ms)))

    def times(self, factor: float) -> Quantiles:
        """Return the curve of `factor` times the latency."""
        return Quantiles(tuple(value * factor for value in self.ms))

    def mixed(self, other: Quantiles, share: float) -> Quantiles:
        """Return the distribution that draws from `other` with probability `share`, else from this one."""
        if share <= 0.0 or self == other:
            return self
        if share >= 1.0:
            return other
        return Quantiles.rising(self._mixed_at(other, share, q) for q in LEVELS)

    def _mixed_at(self, other: Quantiles, share: float, q: float) -> float:
        low, high = sorted((self.at(q), other.at(q)))
        while high - low > 1e-3 * high:
            middle = 0.5 * (low + high)
            reached = (1.0 - share) * self.share_within(middle) + share * other.share_within(middle)
            low, high = (low, middle) if reached >= q else (middle, high)
        return high


def _along(anchors: tuple[tuple[float, float], ...], u: float) -> float:
    """Interpolate (and extrapolate along the last segment) through points `(u, ms)`."""
    i = 1
    while i < len(anchors) - 1 and u > anchors[i][0]:
        i += 1
    (u0, v0), (u1, v1) = anchors[i - 1], anchors[i]
    return v0 + (v1 - v0) * (u - u0) / (u1 - u0)


@dataclass(frozen=True, slots=True)
class BatchTable:
    """Latency by number of items in one call: `curves[i]` belongs to `sizes[i]`.

    Between two sizes each level is interpolated; a call with more items than the largest size is done in
    chunks of that size, one after the other.
    """

    sizes: tuple[int, ...]
    curves: tuple[Quantiles, ...]
    _memo: dict[int, Quantiles] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.sizes or self.sizes[0] != 1 or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes: {self.sizes}; allowed: increasing batch sizes that start at 1")
        if len(self.sizes) != len(self.curves):
            raise ValueError(f"curves: {len(self.curves)}; allowed: one for each of {len(self.sizes)} sizes")

    @classmethod
    def from_batch_ms(cls, batch_ms: Mapping[int, float], shape: Quantiles) -> BatchTable:
        """Scale `shape`, the curve of one item, by `batch_ms[n] / batch_ms[1]` (ms for one batch of n)."""
        sizes = tuple(sorted(batch_ms))
        return cls(sizes, tuple(shape.times(batch_ms[n] / batch_ms[1]) for n in sizes))

    def curve(self, items: int) -> Quantiles:
        """Return the latency of one call that carries `items` items."""
        found = self._memo.get(items)
        if found is None:
            if len(self._memo) >= 1024:
                self._memo.clear()
            found = self._memo[items] = self._curve(items)
        return found

    def _curve(self, items: int) -> Quantiles:
        largest = self.sizes[-1]
        if items > largest:
            whole, rest = divmod(items, largest)
            total = self.curves[-1].times(whole)
            return total.plus(self.curve(rest)) if rest else total
        i = bisect_right(self.sizes, items)
        if self.sizes[i - 1] == items:
            return self.curves[i - 1]
        share = (items - self.sizes[i - 1]) / (self.sizes[i] - self.sizes[i - 1])
        low, high = self.curves[i - 1].ms, self.curves[i].ms
        return Quantiles.rising(a + (b - a) * share for a, b in zip(low, high, strict=True))

    def plus(self, extra: Quantiles) -> BatchTable:
        """Add the same extra latency (a network hop, say) to every size."""
        return BatchTable(self.sizes, tuple(curve.plus(extra) for curve in self.curves))

    def calls(self, items: int) -> int:
        """Return into how many calls of at most the largest size `items` must be cut."""
        return ceil(items / self.sizes[-1])
