"""The race by itself, with ports made of plain functions: hedges, chunks, standbys, and what is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from handlers.errors import EndpointAsleep, EndpointFailed, EndpointThrottled, Overloaded
from handlers.routing.types import Decision, Option, Path, Reason
from handlers.serving import race
from handlers.serving.calls import Paths
from handlers.serving.paths import Job
from handlers.serving.postprocess import Scored

Infer = Callable[[int, Sequence[Any]], Any]
CPU = Scored(np.float32([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]]), np.float32([0.9, 0.55, 0.8]))
GPU_LOGITS = np.float32([-5.0, 5.0])


class Attempt:
    """A CPU answer by a function; says whether it was stopped."""

    def __init__(self, run: Callable[[], Scored]) -> None:
        self.run = run
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()


class Cpu:
    """The CPU port by a function."""

    def __init__(self, run: Callable[[], Scored]) -> None:
        self._run = run
        self.attempts: list[Attempt] = []

    def answer(self, job: Job, timeout_s: float) -> Scored:
        return self.attempt(job, timeout_s).run()

    def attempt(self, job: Job, timeout_s: float) -> Attempt:
        self.attempts.append(Attempt(self._run))
        return self.attempts[-1]


class Gpu:
    """The GPU port by a function of the call's number and its arrays."""

    def __init__(self, infer: Infer) -> None:
        self._infer = infer
        self.calls: list[int] = []

    def infer(self, arrays: Sequence[Any], timeout_s: float, priority: str) -> Any:
        self.calls.append(len(arrays[0]))
        return self._infer(len(self.calls), arrays)


def ones(_: int, arrays: Sequence[Any]) -> Any:
    return np.tile(GPU_LOGITS, (len(arrays[0]), 1))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


TAKEN = Option(Path.CPU, False, 1.0, 1.0, 0.0, 0.9, True, Reason.FEASIBLE)


def decision(path: Path, **changes: Any) -> Decision:
    fields: dict[str, Any] = {
        "reason": Reason.CHEAPEST_FEASIBLE,
        "options": (TAKEN,),
        "taken": TAKEN,
        "predicted_ms": 1.0,
        "cost_usd": 0.0,
    }
    fields |= {"deadline_ms": 300.0, "chunk_items": 8, "gpu_needs_ms": 1.0, "standby": path is Path.GPU}
    return Decision(path=path, **(fields | changes))


def run(made: Decision, cpu: Cpu, gpu: Gpu | None, pool: ThreadPoolExecutor, tokens: int = 1) -> Any:
    left = iter([True] * tokens)
    arrays = (np.arange(3, dtype=np.float32).reshape(3, 1),)
    job = Job((), arrays, 3, time.monotonic(), "normal")
    paths = Paths(cpu, gpu, pool, time.monotonic, lambda: next(left, False), "classification", 1.0)
    return race.run(job, made, paths)


def test_GIVEN_escalation_WHEN_one_item_is_unsure_THEN_only_it_is_replaced_in_its_place(pool: Any) -> None:
    gpu = Gpu(ones)

    answer = run(decision(Path.CPU, escalate_below=0.6), Cpu(lambda: CPU), gpu, pool)

    assert gpu.calls == [1]
    assert answer.scored.values.argmax(axis=1).tolist() == [0, 1, 1]
    assert answer.scored.values[0].tolist() == CPU.values[0].tolist()
    assert (answer.path, answer.escalated_items, answer.degraded) == (Path.GPU, 1, None)
    assert [(call.path, call.items, call.ok) for call in answer.calls] == [
        (Path.CPU, 3, True),
        (Path.GPU, 1, True),
    ]


def test_GIVEN_no_time_left_WHEN_an_item_is_unsure_THEN_degraded_without_a_call(pool: Any) -> None:
    gpu = Gpu(ones)

    answer = run(decision(Path.CPU, escalate_below=0.6, gpu_needs_ms=10_000.0), Cpu(lambda: CPU), gpu, pool)

    assert (answer.degraded, answer.missed_items, gpu.calls) == ("no_time_to_escalate", 1, [])


def test_GIVEN_no_escalation_WHEN_items_are_below_the_asked_quality_THEN_degraded_says_why(pool: Any) -> None:
    made = decision(Path.CPU, degraded_below=0.6, degraded_reason=Reason.GPU_ASLEEP)

    answer = run(made, Cpu(lambda: CPU), None, pool)

    assert (answer.degraded, answer.missed_items) == ("gpu_asleep", 1)


def test_GIVEN_chunks_WHEN_the_gpu_is_asked_THEN_they_are_merged_in_order(pool: Any) -> None:
    def echo(_: int, arrays: Sequence[Any]) -> Any:
        time.sleep(0.02 * (2 - float(arrays[0][0, 0])))  # the first chunk comes last
        return np.hstack([arrays[0], -arrays[0]]).astype(np.float32)

    gpu = Gpu(echo)

    answer = run(decision(Path.GPU, chunk_items=1, standby=False), Cpu(lambda: CPU), gpu, pool)

    assert gpu.calls == [1, 1, 1]
    assert np.all(np.diff(answer.scored.values[:, 0]) > 0)


def test_GIVEN_a_slow_first_call_WHEN_it_is_time_to_hedge_THEN_the_second_answers_for_one_token(
    pool: Any,
) -> None:
    def infer(number: int, arrays: Sequence[Any]) -> Any:
        time.sleep(0.5 if number == 1 else 0.0)
        return ones(number, arrays)

    gpu = Gpu(infer)
    answer = run(decision(Path.GPU, hedge_after_ms=20.0, standby=False), Cpu(lambda: CPU), gpu, pool)

    assert (answer.path, answer.attempts, len(gpu.calls)) == (Path.GPU, 2, 2)
    assert answer.calls[-1].ms < 400


def test_GIVEN_no_token_WHEN_it_is_time_to_hedge_THEN_no_second_call(pool: Any) -> None:
    gpu = Gpu(lambda number, arrays: (time.sleep(0.1), ones(number, arrays))[1])

    run(decision(Path.GPU, hedge_after_ms=20.0, standby=False), Cpu(lambda: CPU), gpu, pool, tokens=0)

    assert len(gpu.calls) == 1


def test_GIVEN_a_gpu_that_answers_WHEN_the_cpu_still_computes_THEN_the_cpu_is_stopped(pool: Any) -> None:
    cpu = Cpu(lambda: (time.sleep(0.2), CPU)[1])

    answer = run(decision(Path.GPU, standby_degrades=True), cpu, Gpu(ones), pool)

    assert answer.path is Path.GPU
    assert cpu.attempts[0].stopped.is_set()


def test_GIVEN_a_failed_call_and_no_standby_WHEN_nothing_else_is_left_THEN_the_cpu_is_asked_after_all(
    pool: Any,
) -> None:
    def fail(number: int, arrays: Sequence[Any]) -> Any:
        raise EndpointAsleep("no capacity")

    answer = run(decision(Path.GPU, standby=False, standby_degrades=True), Cpu(lambda: CPU), Gpu(fail), pool)

    assert (answer.path, answer.degraded) == (Path.CPU, "gpu_asleep")
    assert [call.ok for call in answer.calls] == [False, True]


@pytest.mark.parametrize("error", [EndpointFailed("reset"), EndpointThrottled("429", 0.01)])
def test_GIVEN_a_passing_failure_WHEN_a_token_is_there_THEN_one_retry(pool: Any, error: Exception) -> None:
    def infer(number: int, arrays: Sequence[Any]) -> Any:
        if number == 1:
            raise error
        return ones(number, arrays)

    gpu = Gpu(infer)
    answer = run(decision(Path.GPU, standby_degrades=True), Cpu(lambda: CPU), gpu, pool)

    assert (answer.path, len(gpu.calls), len(answer.gpu_errors)) == (Path.GPU, 2, 1)
    gpu.calls.clear()
    answer = run(decision(Path.GPU, standby_degrades=True), Cpu(lambda: CPU), gpu, pool, tokens=0)
    assert (answer.path, len(gpu.calls)) == (Path.CPU, 1)


def test_GIVEN_both_paths_failing_WHEN_run_THEN_overloaded(pool: Any) -> None:
    def fail(*_: object) -> Any:
        raise EndpointFailed("broken")

    with pytest.raises(Overloaded, match="neither path"):
        run(decision(Path.GPU, standby_degrades=True), Cpu(fail), Gpu(fail), pool)
    with pytest.raises(Overloaded, match="gives no answer"):
        run(decision(Path.CPU), Cpu(fail), None, pool)


def test_GIVEN_a_shared_batch_WHEN_both_parts_are_there_THEN_they_are_one_in_order(pool: Any) -> None:
    arrays = (np.arange(5, dtype=np.float32)[:, None],)
    seen: list[list[float]] = []

    class Own(Cpu):
        def attempt(self, job: Job, timeout_s: float) -> Attempt:
            seen.append(job.arrays[0][:, 0].tolist())
            return Attempt(
                lambda: Scored(np.float32([[1.0, 0.0]] * job.items), np.float32([0.9] * job.items))
            )

    gpu = Gpu(ones)
    made = decision(Path.GPU, gpu_items=3, standby_after_ms=200.0)
    job = Job((), arrays, 5, time.monotonic(), "normal")
    paths = Paths(Own(lambda: CPU), gpu, pool, time.monotonic, lambda: False, "classification", 1.0)

    answer = race.run(job, made, paths)

    assert answer.scored.values.argmax(axis=1).tolist() == [1, 1, 1, 0, 0]
    assert (gpu.calls, seen) == ([3], [[3.0, 4.0]])
    assert {(call.path, call.items) for call in answer.calls} == {(Path.GPU, 3), (Path.CPU, 2)}
    assert (answer.path, answer.degraded) == (Path.GPU, None)


def test_GIVEN_a_shared_batch_WHEN_the_gpu_fails_THEN_the_cpu_answers_its_part_too(pool: Any) -> None:
    class Own(Cpu):
        def attempt(self, job: Job, timeout_s: float) -> Attempt:
            return Attempt(
                lambda: Scored(np.float32([[1.0, 0.0]] * job.items), np.float32([0.9] * job.items))
            )

    def fails(_: int, __: Sequence[Any]) -> Any:
        raise EndpointAsleep("no capacity")

    job = Job((), (np.zeros((5, 1), np.float32),), 5, time.monotonic(), "normal")
    paths = Paths(Own(lambda: CPU), Gpu(fails), pool, time.monotonic, lambda: False, "classification", 1.0)

    answer = race.run(job, decision(Path.GPU, gpu_items=2), paths)

    assert answer.scored.values.argmax(axis=1).tolist() == [0] * 5
    assert answer.path is Path.CPU
