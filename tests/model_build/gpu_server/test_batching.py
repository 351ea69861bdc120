"""The pure rules: when a batch closes, what it costs, when a request is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_build.gpu_server.batching import Curve, Waiting, buckets, close_time, finish_time, round_down

CURVE = Curve((1, 2, 4, 8), (1.0, 1.5, 2.0, 4.0))
PADDED = Curve((1, 2, 4, 8), (1.0, 1.5, 2.0, 4.0), padded=True)


def test_a_size_between_two_measured_ones_lies_on_the_line_or_is_padded_up() -> None:
    assert CURVE.seconds(6) == pytest.approx(0.003)
    assert PADDED.seconds(6) == pytest.approx(0.004)
    assert (CURVE.bucket(6), PADDED.bucket(6)) == (6, 8)


def test_a_full_batch_closes_at_once() -> None:
    assert close_time(Waiting(8, 10.0, 99.0), CURVE, 0.005, 0.0) == 10.0


def test_a_batch_closes_after_the_maximum_wait_of_its_oldest_request() -> None:
    assert close_time(Waiting(2, 10.0, 99.0), CURVE, 0.005, 0.0) == pytest.approx(10.005)


def test_a_batch_closes_in_time_for_its_tightest_deadline() -> None:
    assert close_time(Waiting(2, 10.0, 10.004), CURVE, 0.005, 0.0005) == pytest.approx(10.002)


def test_the_finish_counts_what_is_running_and_what_waits_ahead() -> None:
    assert finish_time(0.0, 0.0, 0, 1, CURVE, 1) == pytest.approx(0.001)
    assert finish_time(0.0, 0.002, 0, 1, CURVE, 1) == pytest.approx(0.003)
    assert finish_time(0.0, 0.0, 16, 1, CURVE, 1) == pytest.approx(0.009)
    assert finish_time(0.0, 0.0, 16, 1, CURVE, 2) == pytest.approx(0.005)


def test_padding_is_avoided_where_the_smaller_bucket_serves_more_a_second() -> None:
    steep = Curve((1, 2, 4, 8), (1.0, 1.1, 1.2, 9.0), padded=True)
    assert round_down(5, steep) == 4
    assert round_down(5, PADDED) == 4
    assert round_down(7, PADDED) == 4 if 7 / 4.0 < 4 / 2.0 else 7
    assert round_down(5, CURVE) == 5


def test_memory_back_off_keeps_the_smallest_size() -> None:
    assert CURVE.limited(4).sizes == (1, 2, 4)
    assert CURVE.limited(0).sizes == (1,)


@given(st.integers(1, 500))
def test_buckets_rise_to_the_largest_batch(max_batch: int) -> None:
    sizes = buckets(max_batch)
    assert sizes[0] == 1
    assert sizes[-1] == max_batch
    assert list(sizes) == sorted(set(sizes))


@given(st.floats(0.01, 1e6), st.integers(1, 8))
def test_one_outlier_moves_the_curve_by_a_quarter_up_or_a_fortieth_down_at_most(
    ms: float, items: int
) -> None:
    after = CURVE.observed(items, ms).seconds(items) / CURVE.seconds(items)
    assert 0.974 <= after <= 1.251


def test_a_promise_counts_what_joins_the_batch_before_it_begins() -> None:
    """Given a busy worker and 2,000 items a second, then a lone request's batch is full when it begins."""
    assert finish_time(0.0, 0.004, 0, 1, CURVE, 1, 2_000.0) == pytest.approx(0.004 + CURVE.seconds(8))
    assert finish_time(0.0, 0.0, 0, 1, CURVE, 1, 2_000.0) == pytest.approx(CURVE.seconds(1))


@given(st.integers(0, 64), st.integers(1, 16), st.integers(1, 4))
def test_more_work_ahead_never_finishes_earlier(ahead: int, items: int, workers: int) -> None:
    now = finish_time(0.0, 0.0, ahead, items, CURVE, workers)
    one = finish_time(0.0, 0.0, ahead, items, CURVE, 1)
    assert finish_time(0.0, 0.0, ahead + 1, items, CURVE, 1) >= one
    assert finish_time(0.0, 0.0, ahead + 8, items, CURVE, workers) >= now
