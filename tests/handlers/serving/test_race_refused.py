"""A GPU that has no room: the call is given only the time before the standby, and the unsure ask again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from handlers.errors import EndpointFailed, EndpointThrottled
from handlers.routing.types import Decision, Option, Path, Reason
from handlers.serving.calls import Answer, Paths
from handlers.serving.paths import Job
from handlers.serving.postprocess import Scored, score
from handlers.serving.race import run


@dataclass
class Gpu:
    """An endpoint that meets each call with the next of its outcomes; it notes the time it was given."""

    outcomes: list[Exception | float]
    given_s: list[float] = field(default_factory=list)

    def infer(self, arrays: Sequence[NDArray[Any]], timeout_s: float, priority: str) -> NDArray[np.float32]:
        self.given_s.append(timeout_s)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return np.full((len(arrays[0]), 2), (0.0, outcome), dtype=np.float32)


@dataclass
class Cpu:
    """A CPU path that answers every item with logits (0, margin)."""

    margin: float

    def answer(self, job: Job, timeout_s: float) -> Scored:
        return self.attempt(job, timeout_s).run()

    def attempt(self, job: Job, timeout_s: float) -> Cpu:
        self.items = job.items
        return self

    def run(self) -> Scored:
        return score(np.full((self.items, 2), (0.0, self.margin), dtype=np.float32), "classification", 1.0)

    def stop(self) -> None:
        pass


TAKEN = Option(Path.GPU, False, 50.0, 1.0, 1e-6, 0.9, True, Reason.FEASIBLE)


def raced(gpu: Gpu, margin: float, *, degrades: bool = False) -> Answer:
    decision = Decision(
        Path.GPU, Reason.CHEAPEST_FEASIBLE, (TAKEN,), TAKEN, 50.0, 1e-6, 1000.0,
        gpu_needs_ms=100.0, degraded_below=0.9,
        standby=True, standby_after_ms=300.0, standby_degrades=degrades,
    )  # fmt: skip
    job = Job((), (np.zeros((1, 3), dtype=np.float32),), 1, time.monotonic(), "normal")
    with ThreadPoolExecutor(4) as pool:
        paths = Paths(Cpu(margin), gpu, pool, time.monotonic, lambda: False, "classification", 1.0)
        return run(job, decision, paths)


def test_the_endpoint_is_given_the_time_until_the_standby() -> None:
    """Given a standby that is as good, then the call's time ends where the standby would be asked for."""
    gpu = Gpu([5.0])
    assert raced(gpu, 9.0).path is Path.GPU
    assert gpu.given_s[0] <= 0.301
    patient = Gpu([5.0])
    raced(patient, 9.0, degrades=True)
    assert 0.5 < patient.given_s[0] <= 1.0


def test_an_unsure_answer_asks_again_after_a_refusal() -> None:
    """Given a refusal and an unsure CPU answer, then the GPU is asked once more."""
    gpu = Gpu([EndpointThrottled("no room"), 5.0])
    answer = raced(gpu, 0.1)
    assert (answer.path, answer.escalated_items, answer.degraded) == (Path.GPU, 1, None)
    assert gpu.given_s[1] > 0.5


def test_a_sure_answer_does_not() -> None:
    """Given a refusal and a sure CPU answer, then it goes out, not degraded."""
    gpu = Gpu([EndpointThrottled("no room")])
    answer = raced(gpu, 9.0)
    assert (answer.path, answer.missed_items, answer.degraded) == (Path.CPU, 0, None)


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([EndpointThrottled("no room"), EndpointThrottled("no room")], "gpu_throttled"),
        ([EndpointFailed("broken")], "gpu_failed"),
    ],
)
def test_an_unsure_answer_that_stays_alone_says_so(outcomes: list[Exception | float], reason: str) -> None:
    """Given that the GPU gives nothing at all, then the unsure answer is marked degraded, and why."""
    answer = raced(Gpu(outcomes), 0.1)
    assert (answer.path, answer.missed_items, answer.degraded) == (Path.CPU, 1, reason)
