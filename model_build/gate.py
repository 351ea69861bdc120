"""Gate: order the candidates by what they cost, and take the first that passes everything asked of it.

Order: the fastest first, where 5 % or 0.03 ms is a tie (Lambda bills whole milliseconds); among those the
smallest file, where a quarter or 32 kB is a tie; among those the best score. int8 is in the race only where
it beats float32 of the same network by a tenth of the time and 0.03 ms, or at equal speed by a quarter of
the size and 32 kB. A candidate that fails a gate is put aside with the reason and the next one is tried:
that is how a build backs off to less pruning or fewer quantised operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handlers.errors import BuildError
from model_build.candidate import Measured, MeasureResult
from model_build.gpu_variant import GpuVariant
from model_build.isa_parity import IsaParity, check
from model_build.recipe import Gates
from model_build.step import Step, Work

TIE = 1.05
ROUNDING = 1e-9
"""Accuracies are ratios of counts: a drop that equals its bound must not fail by the last bit."""
WORTH_SPEED, WORTH_MS, WORTH_BYTES, WORTH_SHARE = 1.1, 0.03, 32_000, 0.75


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates said of one candidate; `failures` is empty when it passed."""

    name: str
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateResult:
    """The candidate that becomes the cpu variant, why, and what was put aside before it."""

    chosen: Measured
    reason: str
    verdicts: tuple[Verdict, ...]
    isa: IsaParity


def gate(work: Work, measured: MeasureResult, gpu: GpuVariant) -> GateResult:
    """Choose; ISA parity is run on a candidate once it has passed the other gates. Raises BuildError."""

    def isa(candidate: Measured) -> IsaParity:
        work.progress(0.5, f"ISA parity of {candidate.candidate.name}")
        tensors = [tensor[:32] for tensor in work.splits.calibration.tensors]
        return check(
            candidate.candidate.path, tensors, work.recipe.task, work.folder, candidate.load_optimisation
        )

    return choose(measured.measured, work.recipe.gates, gpu.score, isa)


def choose(
    measured: Sequence[Measured], gates: Gates, teacher_score: float, isa: Callable[[Measured], IsaParity]
) -> GateResult:
    """The first candidate in order that passes. Raises BuildError listing every failure when none does."""
    verdicts: list[Verdict] = []
    for entry in ranked(measured):
        failures = failures_of(entry, gates, teacher_score)
        parity = None
        if not failures:
            parity = isa(entry)
            failures = parity.failures
        verdicts.append(Verdict(entry.candidate.name, failures))
        if not failures and parity is not None:
            return GateResult(entry, why(entry, measured, verdicts), tuple(verdicts), parity)
    listed = "; ".join(f"{verdict.name}: {', '.join(verdict.failures)}" for verdict in verdicts)
    raise BuildError(f"gate: no candidate passes, so no release is made ({listed})")


def ranked(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """Candidates by latency, then size, then score, each with its ties: see the module's text."""
    left = sorted(pays(measured), key=lambda entry: entry.p50_ms)
    order: list[Measured] = []
    while left:
        tied = [e for e in left if e.p50_ms <= max(TIE * left[0].p50_ms, left[0].p50_ms + WORTH_MS)]
        smallest = min(e.candidate.size_bytes for e in tied)
        small = [
            e for e in tied if e.candidate.size_bytes <= max(smallest / WORTH_SHARE, smallest + WORTH_BYTES)
        ]
        best = max(small, key=lambda e: (e.score, -e.p50_ms))
        order.append(best)
        left.remove(best)
    return tuple(order)


def pays(measured: Sequence[Measured]) -> list[Measured]:
    """Without the int8 forms that buy nothing over float32 of the same network."""
    floats = {m.candidate.network: m for m in measured if m.candidate.precision == "fp32"}
    kept = []
    for entry in measured:
        base = floats.get(entry.candidate.network, entry)
        small, large = entry.candidate.size_bytes, base.candidate.size_bytes
        faster = WORTH_SPEED * entry.p50_ms <= base.p50_ms and base.p50_ms - entry.p50_ms >= WORTH_MS
        smaller = (
            small <= WORTH_SHARE * large
            and large - small >= WORTH_BYTES
            and entry.p50_ms <= TIE * base.p50_ms
        )
        if entry is base or faster or smaller:
            kept.append(entry)
    return kept


def failures_of(entry: Measured, gates: Gates, teacher_score: float) -> tuple[str, ...]:
    """Which gates the candidate fails on validation data, in words with both numbers."""
    found = []
    if entry.score < teacher_score - gates.max_drop - ROUNDING:
        drop = teacher_score - entry.score
        found.append(f"{100 * drop:.2f} points below the teacher, at most {100 * gates.max_drop:.2f} allowed")
    if gates.min_accuracy is not None and entry.score < gates.min_accuracy:
        found.append(f"score {entry.score:.4f}, at least {gates.min_accuracy:.4f} asked")
    if gates.max_size_bytes is not None and entry.candidate.size_bytes > gates.max_size_bytes:
        found.append(f"{entry.candidate.size_bytes} bytes, at most {gates.max_size_bytes} allowed")
    if gates.max_latency_ms is not None and entry.p50_ms > gates.max_latency_ms:
        found.append(f"{entry.p50_ms:.3f} ms, at most {gates.max_latency_ms:g} ms allowed")
    return tuple(found)


def why(chosen: Measured, measured: Sequence[Measured], verdicts: Sequence[Verdict]) -> str:
    """One sentence: what int8 would have bought or did buy on the same network, and what was backed off
    from.
    """
    network = [entry for entry in measured if entry.candidate.network == chosen.candidate.network]
    floats = [entry for entry in network if entry.candidate.precision == "fp32"]
    ints = [entry for entry in network if entry.candidate.precision == "int8"]
    back_off = [verdict for verdict in verdicts if verdict.failures]
    tail = (
        "; backed off from " + ", ".join(f"{v.name} ({v.failures[0]})" for v in back_off) if back_off else ""
    )
    if chosen.candidate.precision == "int8" and floats:
        base = floats[0]
        return (
            f"int8: {base.p50_ms / chosen.p50_ms:.2f}× the speed and "
            f"{base.candidate.size_bytes / chosen.candidate.size_bytes:.1f}× smaller than fp32, "
            f"{100 * (chosen.score - base.score):+.2f} points on validation{tail}"
        )
    if ints:
        best = min(ints, key=lambda entry: entry.p50_ms)
        saved = chosen.candidate.size_bytes - best.candidate.size_bytes
        return (
            f"fp32 kept: the fastest int8 form ({best.candidate.scheme}) takes {best.p50_ms:.3f} ms against "
            f"{chosen.p50_ms:.3f} ms and saves {saved / 1000:.0f} kB{tail}"
        )
    return f"fp32: the graph has nothing that int8 would help{tail}"


GATE = Step("gate", gate, needs=("measure", "gpu-variant"), reads=("gates", "task"))
