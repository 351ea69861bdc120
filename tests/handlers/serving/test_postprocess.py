"""Scores: one item alone and the same item in a batch have the same probabilities and confidence."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.serving.postprocess import FEW, score

logits = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=FEW + 8)


@given(logits, st.sampled_from([0.25, 1.0, 3.0]))
def test_GIVEN_an_item_WHEN_scored_alone_THEN_as_in_a_batch(row: list[float], temperature: float) -> None:
    raw = np.array([row], dtype=np.float32)

    alone = score(raw, "classification", temperature)
    batch = score(np.concatenate([raw, raw]), "classification", temperature)

    assert alone.values.dtype == alone.confidence.dtype == np.float32
    np.testing.assert_allclose(alone.values[0], batch.values[0], rtol=2e-3, atol=1e-6)
    assert alone.confidence[0] == alone.values.max()
    assert alone.values.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_GIVEN_a_logit_that_is_no_number_WHEN_scored_THEN_the_confidence_is_none_either(
    bad: float, place: int
) -> None:
    raw = np.ones((1, 3), dtype=np.float32)
    raw[0, place] = bad

    assert isnan(score(raw, "classification", 1.0).confidence[0])
