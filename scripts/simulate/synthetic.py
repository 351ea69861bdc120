"""Synthetic arrivals, seeded: Poisson, a two-state MMPP, a day and night, a flash crowd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from handlers.errors import InvalidInput

from .trace import Trace

Rates = NDArray[np.float64]


def constant(seconds: int, rps: float, _random: np.random.Generator) -> Rates:
    """The same rate all the time: a Poisson process."""
    return np.full(seconds, rps)


def bursts(seconds: int, rps: float, random: np.random.Generator) -> Rates:
    """Markov-modulated: 0.4 × the mean rate, and bursts at 4 × that last a minute and come every 6.

    The two-state chain spends 1/6 of its time in the burst, so that the mean is `rps`.
    """
    rates = np.empty(seconds)
    at, high = 0, False
    while at < seconds:
        stay = int(np.ceil(random.exponential(60.0 if high else 300.0)))
        rates[at : at + stay] = rps * (4.0 if high else 0.4)
        at, high = at + stay, not high
    return rates


def day_and_night(seconds: int, rps: float, random: np.random.Generator) -> Rates:
    """One sine a day, from 0.1 to 1.9 × the mean, with slow noise of about 10 %."""
    clock = np.arange(seconds)
    steps = max(2, seconds // 600 + 2)
    noise = np.interp(clock, np.arange(steps) * 600.0, random.normal(0.0, 0.1, steps))
    wave = 1.0 - 0.9 * np.cos(2 * np.pi * clock / 86400.0)
    return np.asarray(np.maximum(0.0, rps * wave * (1.0 + noise)))


def flash_crowd(seconds: int, rps: float, random: np.random.Generator) -> Rates:
    """A quiet stream that is struck once by ten times its rate, which then fades over a tenth of the time."""
    clock = np.arange(seconds, dtype=np.float64)
    struck = seconds * random.uniform(0.2, 0.6)
    fading = np.exp(-(clock - struck) / max(30.0, seconds * 0.1))
    return rps * (1.0 + np.where(clock >= struck, 9.0 * fading, 0.0))


KINDS: dict[str, Callable[[int, float, np.random.Generator], Rates]] = {
    "poisson": constant,
    "mmpp": bursts,
    "diurnal": day_and_night,
    "flash-crowd": flash_crowd,
}


def generate(kind: str, rps: float, duration_s: float, seed: int) -> Trace:
    """Draw a trace of about `rps × duration_s` requests; the same seed gives the same trace."""
    if kind not in KINDS:
        raise InvalidInput("--synthetic", kind, ", ".join(KINDS))
    if not 0.0 < rps < 1e5:
        raise InvalidInput("--rps", rps, "a rate above 0 and below 100000 requests/s")
    if not 1.0 <= duration_s <= 366 * 86400:
        raise InvalidInput("--duration", duration_s, "1 second to 366 days")
    random = np.random.default_rng([seed, len(kind)])
    seconds = int(np.ceil(duration_s))
    rates = KINDS[kind](seconds, rps, random)
    counts = random.poisson(rates)
    if counts.sum() == 0:
        counts[0] = 1
    times = np.repeat(np.arange(seconds, dtype=np.float64), counts) + random.random(int(counts.sum()))
    return Trace(f"synthetic {kind}", np.sort(times), float(seconds))
