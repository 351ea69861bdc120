"""Windows, scaling and synthetic arrivals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.errors import InvalidInput
from scripts.simulate.synthetic import KINDS, generate
from scripts.simulate.trace import Trace


def evenly(count: int = 1000, duration_s: float = 100.0) -> Trace:
    return Trace("even", np.linspace(0.0, duration_s, count, endpoint=False), duration_s)


@given(st.floats(0.05, 8.0), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_scaling_keeps_order_and_comes_near_the_rate(factor: float, seed: int) -> None:
    """Given any factor, then times stay sorted inside the trace, and about that many are left."""
    scaled = evenly().scaled(factor, seed)
    assert np.all(np.diff(scaled.times) >= 0)
    assert scaled.times[0] >= 0
    assert scaled.times[-1] < scaled.duration_s
    assert abs(scaled.requests - 1000 * factor) <= 5 * np.sqrt(1000 * max(factor, 1)) + 1


def test_scaling_is_repeatable() -> None:
    """Given the same seed, then the same trace; another seed, another."""
    assert np.array_equal(evenly().scaled(2.5, 1).times, evenly().scaled(2.5, 1).times)
    assert not np.array_equal(evenly().scaled(2.5, 1).times, evenly().scaled(2.5, 2).times)


def test_a_window_counts_from_its_start() -> None:
    """Given a window, then only its arrivals are left, and a window outside the trace is refused."""
    part = evenly().window(20.0, 30.0)
    assert (part.requests, part.duration_s) == (100, 10.0)
    assert part.times[0] == pytest.approx(0.0)
    with pytest.raises(InvalidInput, match="--from/--to"):
        evenly().window(200.0, None)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_senseless_scales_are_refused(factor: float) -> None:
    """Given a factor that is no factor, or one that makes too many requests, then it is refused."""
    with pytest.raises(InvalidInput):
        evenly().scaled(factor, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_traces_are_seeded_and_have_about_their_rate(kind: str) -> None:
    """Given a kind and a seed, then the trace is the same each time and its rate is near what was asked."""
    one, two = generate(kind, 20.0, 86400.0, 3), generate(kind, 20.0, 86400.0, 3)
    assert np.array_equal(one.times, two.times)
    assert 15.0 < one.rate_rps < 45.0


def test_mmpp_is_burstier_than_poisson() -> None:
    """Given counts per minute, then the modulated process varies far more than Poisson."""

    def dispersion(kind: str) -> float:
        counts = generate(kind, 10.0, 36000.0, 1).counts(60.0)
        return float(counts.var() / counts.mean())

    assert dispersion("poisson") < 2.0
    assert dispersion("mmpp") > 20.0


@pytest.mark.parametrize(("kind", "rps", "length"), [("wave", 1, 60), ("poisson", 0, 60), ("poisson", 1, 0)])
def test_senseless_synthetic_options_are_refused(kind: str, rps: float, length: float) -> None:
    """Given an unknown kind, no rate, or no length, then it is refused."""
    with pytest.raises(InvalidInput):
        generate(kind, rps, length, 0)
