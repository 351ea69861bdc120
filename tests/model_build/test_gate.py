"""Gate: the order of candidates, every gate, the back-off, and int8 only where it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from handlers.errors import BuildError
from model_build.candidate import Candidate, Measured
from model_build.gate import choose, pays, ranked
from model_build.isa_parity import Isa, IsaParity
from model_build.recipe import Gates

SAME = IsaParity((Isa("haswell", "same", "same labels"),))
DIFFERS = IsaParity((Isa("haswell", "differs", "3 of 32 labels change"),))


def entry(
    scheme: str, p50_ms: float, size: int = 1_000_000, score: float = 0.97, network: str = "net"
) -> Measured:
    precision: Literal["fp32", "int8"] = "int8" if scheme.startswith("int8") else "fp32"
    candidate = Candidate(
        f"{network}/{scheme}",
        network,
        scheme,
        scheme,
        precision,
        0.0,
        Path("x"),
        size,
        {},
    )
    return Measured(candidate, score, p50_ms, 1.0, "off")


def passes(_entry: Measured) -> IsaParity:
    return SAME


def test_the_fastest_wins_then_the_smallest_then_the_best() -> None:
    slow, quick = entry("fp32", 2.0), entry("int8-a", 1.0, 500_000)
    small, sharp = entry("int8-b", 1.02, 250_000, 0.96), entry("int8-c", 1.03, 260_000, 0.98)
    assert [m.candidate.scheme for m in ranked([slow, quick, small, sharp])] == [
        "int8-c",
        "int8-b",
        "int8-a",
        "fp32",
    ]


@pytest.mark.parametrize(
    ("p50_ms", "size", "kept"),
    [
        (1.0, 1_000_000, True),  # a good deal faster
        (1.95, 300_000, True),  # as fast, and much smaller
        (1.95, 990_000, False),  # neither
        (2.4, 300_000, False),  # smaller, but slower
    ],
)
def test_int8_must_pay(p50_ms: float, size: int, kept: bool) -> None:
    base, quantised = entry("fp32", 2.0), entry("int8", p50_ms, size)
    assert (quantised in pays([base, quantised])) is kept


def test_a_gain_that_no_bill_shows_does_not_count() -> None:
    base, quantised = entry("fp32", 0.05, 40_000), entry("int8", 0.03, 12_000)
    result = choose([base, quantised], Gates(max_drop=0.01), 0.97, passes)
    assert result.chosen is base
    assert result.reason.startswith("fp32 kept: the fastest int8 form")


@pytest.mark.parametrize(
    ("gates", "word"),
    [
        (Gates(max_drop=0.005), "points below the teacher"),
        (Gates(max_drop=1.0, min_accuracy=0.95), "at least 0.9500 asked"),
        (Gates(max_drop=1.0, max_size_bytes=600_000), "bytes, at most 600000"),
        (Gates(max_drop=1.0, max_latency_ms=0.9), "ms, at most 0.9 ms"),
    ],
)
def test_each_gate_backs_off_to_the_next_candidate_and_says_so(gates: Gates, word: str) -> None:
    bold = entry("int8-bold", 1.0, 700_000, 0.90)
    fallback = entry("fp32", 2.0 if gates.max_latency_ms is None else 0.8, 500_000, 0.97)
    if gates.max_latency_ms is not None:
        bold = entry("int8-bold", 0.95, 100_000, 0.97, "other")
        fallback = entry("fp32", 0.94, 500_000, 0.97)
        with pytest.raises(BuildError, match=word):
            choose([bold, fallback], gates, 0.97, passes)
        return
    result = choose([bold, fallback], gates, 0.97, passes)
    assert result.chosen is fallback
    assert word in result.verdicts[0].failures[0]
    assert "backed off from net/int8-bold" in result.reason


def test_a_candidate_that_another_cpu_answers_otherwise_is_put_aside() -> None:
    bold, base = entry("int8", 1.0, 300_000), entry("fp32", 2.0)
    result = choose([base, bold], Gates(max_drop=0.01), 0.97, lambda m: DIFFERS if m is bold else SAME)
    assert result.chosen is base
    assert "labels change" in result.reason


def test_no_release_when_nothing_passes_and_every_reason_is_told() -> None:
    with pytest.raises(BuildError, match=r"no release is made .*net/int8.*net/fp32"):
        choose(
            [entry("fp32", 2.0, score=0.5), entry("int8", 1.0, score=0.5)], Gates(max_drop=0.01), 0.97, passes
        )
