"""The raw model's process: one that stays, and measures what it is asked for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scripts.bench.gpu_models import MODELS, export_program
from scripts.bench.gpu_raw import raw_model, timed


def test_a_batch_is_run_for_as_long_as_asked_and_three_times_at_least() -> None:
    runs: list[float] = []

    def run() -> None:
        runs.append(time.perf_counter())
        time.sleep(0.01)

    timing = timed(run, 8, 0.1)
    assert timing["ms"] >= 10
    assert timing["items_per_s"] <= 800
    assert runs[-1] - runs[0] < 0.1
    before = len(runs)
    timed(run, 8, 0.0)
    assert len(runs) - before == 3


@pytest.mark.slow
def test_one_process_answers_order_after_order(tmp_path: Path) -> None:
    model = MODELS["light"]
    program = tmp_path / "model.pt2"
    export_program(model.make(), model.example(2), program)
    with raw_model(str(program), model, "cpu", 1) as raw:
        one, full = raw(1, 0.05), raw(32, 0.05)
    assert 0 < one["ms"] <= full["ms"] * 2
    assert full["items_per_s"] > one["items_per_s"]
