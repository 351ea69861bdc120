"""What `turnout top` counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.local.tally import Follower, Tally, parse


def line(path: str = "cpu", met: float = 1.0, at_ms: int = 1000) -> str:
    return json.dumps(
        {
            "_aws": {"Timestamp": at_ms}, "model": "digits", "path": path, "Latency": [1.5], "Cost": 2e-6,
            "ObjectiveMet": [met], "Degraded": 0, "Escalated": [1.0],
        }
    )  # fmt: skip


def test_shares_attainment_and_spend() -> None:
    tally = Tally()
    tally.add([line(), line("gpu"), line(met=0.0), line()])
    assert tally.shares() == {"cpu": 0.75, "gpu": 0.25}
    assert tally.share("met") == 0.75
    assert tally.share("escalated") == 1.0
    assert tally.requests_usd == pytest.approx(8e-6)
    assert tally.percentile_ms(0.99) == 1.5


def test_nothing_yet() -> None:
    assert (Tally().shares(), Tally().share("met"), Tally().percentile_ms(0.5)) == ({}, 0.0, 0.0)


@pytest.mark.parametrize(
    "other", ["", "ready", '{"message": "answered", "path": "cpu"}', line()[:40], line()[:-3]]
)
def test_other_lines_are_left_alone(other: str) -> None:
    assert parse(other) is None


def test_a_follower_reads_whole_lines_once(tmp_path: Path) -> None:
    # Given a log that is being written
    log = tmp_path / "log"
    follower = Follower(log)
    assert follower.lines() == []
    log.write_text("one\ntw")
    assert follower.lines() == ["one"]
    # When the line is finished
    with log.open("a") as out:
        out.write("o\n")
    # Then it comes, and comes once
    assert follower.lines() == ["two"]
    assert follower.lines() == []
