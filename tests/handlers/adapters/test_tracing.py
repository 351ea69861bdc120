"""Sampled requests get a subsegment once the SDK is there; others cost nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from handlers.adapters.tracing import TRACE_VARIABLE, Tracing

SAMPLED = {TRACE_VARIABLE: "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}


def test_GIVEN_a_request_that_is_not_sampled_WHEN_seen_THEN_it_is_told_apart() -> None:
    with ThreadPoolExecutor(1) as pool:
        tracing = Tracing("tiny", pool, {TRACE_VARIABLE: "Root=1-2-3;Sampled=0"})

    assert not tracing.sampled


def test_GIVEN_sampled_requests_WHEN_the_sdk_has_come_THEN_the_next_has_a_subsegment() -> None:
    with ThreadPoolExecutor(1) as pool:
        tracing = Tracing("tiny", pool, SAMPLED)
        assert tracing.sampled
        assert isinstance(tracing.subsegment("x"), nullcontext)
    assert not isinstance(tracing.subsegment("x"), nullcontext)
