"""What an answer says of itself: rounded numbers, and never one that is none."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.errors import InvalidInput
from handlers.routing.types import Decision, Option, Path, Reason, Request
from handlers.serving.calls import Answer, Call
from handlers.serving.explain import parameters, server_timing
from handlers.serving.postprocess import Scored
from handlers.serving.service import Handled

TAKEN = Option(Path.CPU, False, 0.79125, 1.0, 0.0, 0.9, True, Reason.FEASIBLE)
DECISION = Decision(Path.CPU, Reason.FORCED, (TAKEN,), TAKEN, 0.79125, 0.0, 200.0)


def handled(confidence: float) -> Handled:
    scored = Scored(np.ones((1, 2), np.float32), np.array([confidence], np.float32))
    answer = Answer(scored, Path.CPU, (Call(Path.CPU, 1, 0.0504, True),), attempts=1)
    asked = Request(200.0)
    return Handled(
        asked, DECISION, answer, "anonymous", "1f", 0.24056, 0.0109, 1.20933108e-6, False, confidence
    )


def test_GIVEN_an_answer_WHEN_it_is_explained_THEN_its_numbers_are_short() -> None:
    said = parameters(handled(0.99985963))

    assert said["confidence"] == 0.99986
    assert said["predicted_ms"] == 0.7913
    assert said["actual_ms"] == 0.241
    assert said["cost_usd"] == 1.209331e-6
    assert server_timing(handled(1.0)) == "decide;dur=0.011, cpu;dur=0.05, total;dur=0.241"


def test_GIVEN_an_answer_that_is_no_number_WHEN_it_is_explained_THEN_the_input_is_to_blame() -> None:
    with pytest.raises(InvalidInput, match="finite"):
        parameters(handled(float("nan")))
