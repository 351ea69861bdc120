"""Measure every candidate alike: quality on validation, speed in fresh processes, in turns.

Candidates are timed in rounds (A B C, A B C, …) and the best median of each counts, so that a neighbour on
the same machine slows none more than another. After the first round only those that may still win go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count

from model_build.candidate import Candidate, Candidates, LoadOptimisation, Measured, MeasureResult
from model_build.latency import Latency, save_inputs, time_graph
from model_build.session import outputs_of
from model_build.step import Step, Work

ROUNDS = 3
# Slower than this after one round, a candidate is out of the race (its first numbers stay in the report).
HOPELESS = 1.2
# Fusing again at load must pay for itself: this much faster, or the graph opens as it is.
LOAD_GAIN = 0.97
# The file is fused to `extended` already, so that level at load has nothing left to do.
LEVELS: tuple[LoadOptimisation, ...] = ("off", "all")

Timer = Callable[[Candidate, LoadOptimisation], Latency]
Times = dict[tuple[str, LoadOptimisation], list[Latency]]


def measure(work: Work, candidates: Candidates) -> MeasureResult:
    """Score and time every candidate."""
    splits, recipe = work.splits, work.recipe
    inputs = save_inputs([tensor[:8] for tensor in splits.calibration.tensors], work.folder / "inputs.npz")

    most, done = ROUNDS * len(LEVELS) * len(candidates.candidates), count()

    def timer(candidate: Candidate, level: LoadOptimisation) -> Latency:
        work.progress(next(done) / most, candidate.name)
        return time_graph(candidate.path, inputs, load_optimisation=level, seconds=0.1)

    times = race(candidates.candidates, timer)
    measured = []
    for candidate in candidates.candidates:
        level, p50_ms, session_ms = best_level({lv: times[candidate.name, lv] for lv in LEVELS})
        outputs = outputs_of(candidate.path, splits.validation.tensors)
        score = recipe.metric.score(outputs, splits.validation.targets)
        measured.append(Measured(candidate, score, p50_ms, session_ms, level))
    return MeasureResult(tuple(measured), candidates.failed)


def race(candidates: Sequence[Candidate], timer: Timer, rounds: int = ROUNDS) -> Times:
    """Time in rounds; a candidate far behind after the first is not timed again."""
    times: Times = {}
    running = list(candidates)
    for _turn in range(rounds):
        for candidate in running:
            for level in LEVELS:
                times.setdefault((candidate.name, level), []).append(timer(candidate, level))
        fastest = min(_p50(times, candidate) for candidate in running)
        running = [entry for entry in running if _p50(times, entry) <= HOPELESS * fastest]
    return times


def best_level(runs: Mapping[LoadOptimisation, Sequence[Latency]]) -> tuple[LoadOptimisation, float, float]:
    """(level, p50 ms, session ms): each higher level only if it makes a call at least 3 % faster."""
    p50 = {level: min(run.batch_ms[1].p50 for run in runs[level]) for level in LEVELS}
    level = LEVELS[0]
    for higher in LEVELS[1:]:
        if p50[higher] <= LOAD_GAIN * p50[level]:
            level = higher
    return level, p50[level], min(run.session_ms for run in runs[level])


def _p50(times: Times, candidate: Candidate) -> float:
    return min(run.batch_ms[1].p50 for level in LEVELS for run in times[candidate.name, level])


MEASURE = Step("measure", measure, needs=("optimise",), reads=("metric",))
