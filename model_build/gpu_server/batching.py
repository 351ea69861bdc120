"""When a batch closes, what fits in it, and when a request is refused: pure functions of what is known now.

Times are seconds on one monotonic clock unless a name ends in `_ms`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace

RISE, FALL = 0.25, 0.05


@dataclass(frozen=True, slots=True)
class Curve:
    """Milliseconds that a batch takes, by batch size (ascending); between two sizes a line.

    `padded`: a batch is filled up to the next size (compiled and captured programs), so it costs that size.
    `factor`: what batches have lately taken over `ms`. The seconds of every number of items are worked out
    once, since each request asks for several.
    """

    sizes: tuple[int, ...]
    ms: tuple[float, ...]
    padded: bool = False
    factor: float = 1.0
    _seconds: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self._seconds:
            table = tuple(_seconds(self, items) for items in range(self.sizes[-1] + 1))
            object.__setattr__(self, "_seconds", table)

    @property
    def max_batch(self) -> int:
        """The largest batch that may be formed."""
        return self.sizes[-1]

    def bucket(self, items: int) -> int:
        """The size that a batch of `items` runs at: itself, or the next bucket when padded."""
        return self.sizes[bisect_left(self.sizes, items)] if self.padded else items

    def seconds(self, items: int) -> float:
        """Predicted duration of one batch of `items` (1 to max_batch), s."""
        return self._seconds[items] * self.factor

    def observed(self, items: int, ms: float) -> Curve:
        """The curve after one more batch was seen to take `ms`: all sizes move by a share of what it was off.

        It rises faster than it falls: what is promised must hold for the slow batch, not for the mean one. A
        single outlier counts for at most a factor of two.
        """
        ratio = min(2.0, max(0.5, ms / (self.seconds(items) * 1000)))
        weight = RISE if ratio > 1 else FALL
        return replace(self, factor=self.factor * (1 + weight * (ratio - 1)))

    def limited(self, max_batch: int) -> Curve:
        """The curve without sizes above `max_batch` (at least the smallest stays)."""
        keep = max(1, sum(size <= max_batch for size in self.sizes))
        return Curve(self.sizes[:keep], self.ms[:keep], self.padded, self.factor)


def _seconds(curve: Curve, items: int) -> float:
    index = bisect_left(curve.sizes, items)
    if curve.padded or curve.sizes[index] == items or index == 0:
        return curve.ms[index] / 1000
    low, high = curve.sizes[index - 1], curve.sizes[index]
    share = (items - low) / (high - low)
    return (curve.ms[index - 1] + share * (curve.ms[index] - curve.ms[index - 1])) / 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queue as the closing rule sees it: items, the arrival of the oldest, the tightest deadline."""

    items: int
    oldest: float
    tightest: float


def close_time(waiting: Waiting, curve: Curve, max_wait: float, margin: float) -> float:
    """When the next batch closes if nothing else arrives: at once when full, else at the earlier of the
    oldest request's maximum wait and the last moment at which the tightest deadline can still be met.
    """
    if waiting.items >= curve.max_batch:
        return waiting.oldest
    must_start = waiting.tightest - curve.seconds(waiting.items) - margin
    return min(waiting.oldest + max_wait, must_start)


def finish_time(
    now: float,
    free_at: float,
    items_ahead: int,
    items: int,
    curve: Curve,
    workers: int,
    joining_per_s: float = 0.0,
) -> float:
    """When a request that joins the queue now would be answered.

    The work ahead of it leaves in full batches over `workers`; the request rides in the batch that its own
    last item falls into, with what joins that batch until it begins.
    """
    before, own = divmod(items_ahead + items - 1, curve.max_batch)
    begin = max(now, free_at) + before * curve.seconds(curve.max_batch) / workers
    joined = own + 1 + int(joining_per_s * (begin - now))
    return begin + curve.seconds(min(joined, curve.max_batch))


def round_down(items: int, curve: Curve) -> int:
    """How many of `items` waiting to take when the sizes are padded: up to the next bucket, or only down to
    the last one when that serves more items a second.
    """
    items = min(items, curve.max_batch)
    if not curve.padded or items in curve.sizes:
        return items
    index = bisect_left(curve.sizes, items)
    if index == 0:
        return items
    up = items / curve.ms[index]
    down = curve.sizes[index - 1] / curve.ms[index - 1]
    return items if up >= down else curve.sizes[index - 1]


def buckets(max_batch: int) -> tuple[int, ...]:
    """Batch sizes that are warmed up: powers of two, and `max_batch` itself."""
    sizes = [1]
    while sizes[-1] * 2 <= max_batch:
        sizes.append(sizes[-1] * 2)
    return tuple(sizes) if sizes[-1] == max_batch else (*sizes, max_batch)
