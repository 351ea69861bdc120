"""What pauses of a machine mean for a request that comes at a random moment."""

from __future__ import annotations

import pytest

from scripts.bench.pauses import wait_of_share


@pytest.mark.parametrize(
    ("pauses", "share", "wait"),
    [
        ([], 0.01, 0.0),
        ([0.5], 0.01, 0.4),  # of 10 s, 0.1 s of moments may wait longer: those at the pause's start
        ([0.5], 0.1, 0.0),
        ([0.2, 0.2], 0.01, 0.15),
        ([0.3, 0.1], 0.01, 0.2),
        ([0.3, 0.1], 0.03, 0.05),
    ],
)
def test_a_moment_within_a_pause_waits_for_its_rest(pauses: list[float], share: float, wait: float) -> None:
    assert wait_of_share(pauses, 10.0, share) == pytest.approx(wait)
