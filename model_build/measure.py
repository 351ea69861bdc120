"""Measure every candidate alike: quality on validation, speed in fresh processes, in turns.

Candidates are timed in rounds (A B C, A B C, …) and the best median of each counts, so that a neighbour on
the same machine slows none more than another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_build.candidate import Candidate, Candidates, LoadOptimisation, Measured, MeasureResult
from model_build.latency import Latency, save_inputs, time_graph
from model_build.session import outputs_of
from model_build.step import Step, Work

ROUNDS = 3
# Fusing again at load must pay for itself: this much faster, or the graph opens as it is.
LOAD_GAIN = 0.97

Timer = Callable[[Path, LoadOptimisation], Latency]


def measure(work: Work, candidates: Candidates) -> MeasureResult:
    """Score and time every candidate."""
    splits, recipe = work.splits, work.recipe
    inputs = save_inputs([tensor[:8] for tensor in splits.calibration.tensors], work.folder / "inputs.npz")

    def timer(path: Path, level: LoadOptimisation) -> Latency:
        return time_graph(path, inputs, load_optimisation=level)

    times: dict[tuple[str, LoadOptimisation], list[Latency]] = {}
    total = ROUNDS * len(candidates.candidates)
    for turn in range(ROUNDS):
        for index, candidate in enumerate(candidates.candidates):
            work.progress((turn * len(candidates.candidates) + index) / total, f"timing {candidate.name}")
            for level in _levels():
                times.setdefault((candidate.name, level), []).append(timer(candidate.path, level))
    measured = []
    for candidate in candidates.candidates:
        level, p50_ms, session_ms = best_level({lv: times[candidate.name, lv] for lv in _levels()})
        outputs = outputs_of(candidate.path, splits.validation.tensors)
        score = recipe.metric.score(outputs, splits.validation.targets)
        measured.append(Measured(candidate, score, p50_ms, session_ms, level))
    return MeasureResult(tuple(measured), candidates.failed)


def best_level(
    runs: dict[LoadOptimisation, list[Latency]],
) -> tuple[LoadOptimisation, float, float]:
    """(level, p50 ms, session ms): opened as it is unless fusing at load makes a call at least 3 % faster."""
    p50 = {level: min(run.batch_ms[1].p50 for run in list_) for level, list_ in runs.items()}
    level: LoadOptimisation = "extended" if p50["extended"] <= LOAD_GAIN * p50["off"] else "off"
    return level, p50[level], min(run.session_ms for run in runs[level])


def _levels() -> tuple[LoadOptimisation, ...]:
    return ("off", "extended")


def describe(candidate: Candidate) -> str:
    """A candidate in words, for progress and reports."""
    pruned = f", {candidate.pruned_share:.0%} of channels pruned" if candidate.pruned_share else ""
    return f"{candidate.words}{pruned}"


MEASURE = Step("measure", measure, needs=("optimise",), reads=("metric",))
