"""A trace: when requests arrived. Windows, scaling and counts of it; how it was read is another matter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidInput

MAX_REQUESTS = 60_000_000

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals in seconds since the start, float64, shape [requests], never decreasing.

    `duration_s` may go past the last arrival. `step_s` is the resolution of the source: arrivals closer
    than that are known to be near each other, not where. `notes` say what reading it had to do.
    """

    name: str
    times: Times
    duration_s: float
    step_s: float = 0.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.times) == 0:
            raise InvalidInput("trace", self.name, "a trace with at least one request")
        if len(self.times) > MAX_REQUESTS:
            raise InvalidInput(
                "trace",
                f"{len(self.times)} requests",
                f"at most {MAX_REQUESTS}; use --from and --to or --scale",
            )

    @property
    def requests(self) -> int:
        """Number of arrivals."""
        return len(self.times)

    @property
    def rate_rps(self) -> float:
        """Mean arrivals per second."""
        return self.requests / self.duration_s

    def counts(self, slot_s: float = 1.0) -> NDArray[np.float64]:
        """Arrivals in each slot of `slot_s` seconds, float64, shape [slots]."""
        slots = max(1, int(np.ceil(self.duration_s / slot_s - 1e-9)))
        index = np.minimum((self.times / slot_s).astype(np.int64), slots - 1)
        return np.bincount(index, minlength=slots).astype(np.float64)

    def window(self, start_s: float | None, end_s: float | None) -> Trace:
        """The arrivals from `start_s` up to `end_s` (seconds since the start), counted from `start_s`."""
        start = 0.0 if start_s is None else start_s
        end = self.duration_s if end_s is None else min(end_s, self.duration_s)
        if not 0.0 <= start < end:
            raise InvalidInput(
                "--from/--to", f"{start:g} to {end:g} s", f"a part of 0 to {self.duration_s:g} s"
            )
        kept = self.times[(self.times >= start) & (self.times < end)] - start
        return replace(self, times=kept, duration_s=end - start)

    def scaled(self, factor: float, seed: int) -> Trace:
        """The same shape at `factor` times the rate: thinned below 1, repeated nearby above.

        A copy lands within a second of its original (or within the source's step, if that is coarser), so
        that bursts stay bursts but do not become simultaneous arrivals.
        """
        if not 0.0 < factor < float("inf"):
            raise InvalidInput("--scale", factor, "a finite number above 0")
        if factor == 1.0:
            return self
        if self.requests * factor > MAX_REQUESTS:
            raise InvalidInput(
                "--scale",
                factor,
                f"at most {MAX_REQUESTS / self.requests:.3g} for this trace: it has "
                f"{self.requests} requests and a replay at most {MAX_REQUESTS}",
            )
        random = np.random.default_rng([seed, 7919])
        whole = int(factor)
        extra = random.random(self.requests) < factor - whole
        copies = np.repeat(self.times, whole + extra)
        first = np.zeros(len(copies), dtype=bool)
        first[np.concatenate(([0], np.cumsum(whole + extra)[:-1]))[(whole + extra) > 0]] = True
        spread = max(1.0, self.step_s)
        moved = copies + np.where(first, 0.0, random.uniform(-0.5, 0.5, len(copies)) * spread)
        times = np.sort(np.clip(moved, 0.0, np.nextafter(self.duration_s, 0.0)))
        return replace(self, name=f"{self.name} x{factor:g}", times=times)


def from_times(
    name: str, times: Times, *, step_s: float = 0.0, notes: tuple[str, ...] = (), seed: int = 0
) -> Trace:
    """A trace from arrival times in seconds on any clock; sorted, counted from the first.

    Where the source has a resolution (`step_s`, say times rounded to 3 s), arrivals are spread evenly at
    random over their step, as nothing else is known.
    """
    if len(times) == 0:
        raise InvalidInput("trace", name, "a trace with at least one request")
    spread = times
    if step_s > 0.0:
        spread = times + np.random.default_rng([seed, 104729]).random(len(times)) * step_s
    disordered = int(np.sum(np.diff(times) < 0))
    if disordered:
        notes = (*notes, f"{disordered} timestamps came before the one above them: sorted")
    ordered = np.sort(spread)
    start = float(times.min())
    ordered = ordered - start
    last = float(ordered[-1])
    return Trace(name, ordered, max(1.0, float(np.nextafter(last, np.inf)), step_s), step_s, notes)


def from_counts(
    name: str, counts: NDArray[np.float64], interval_s: float, seed: int, notes: tuple[str, ...] = ()
) -> Trace:
    """A trace from counts per interval, shape [intervals]: arrivals evenly at random in their interval."""
    whole = np.floor(counts).astype(np.int64)
    random = np.random.default_rng([seed, 15485863])
    whole += random.random(len(counts)) < counts - whole
    total = int(whole.sum())
    if total == 0:
        raise InvalidInput("trace", name, "a trace with at least one request")
    if total > MAX_REQUESTS:
        raise InvalidInput("trace", f"{total} requests", f"at most {MAX_REQUESTS}; use --from and --to")
    starts = np.repeat(np.arange(len(counts), dtype=np.float64) * interval_s, whole)
    times = np.sort(starts + random.random(total) * interval_s)
    return Trace(name, times, len(counts) * interval_s, interval_s, notes)
