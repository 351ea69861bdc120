"""Given a path that fails, when calls are recorded, then the breaker opens, probes and closes as drawn."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from handlers.errors import InvalidInput
from handlers.routing.breaker import CLOSED, Breaker, BreakerSettings
from handlers.routing.tokens import EXTRA_BURST, EXTRA_SHARE, Tokens, retry_delay_ms

SETTINGS = BreakerSettings(window_s=30.0, min_calls=2.5, failure_share=0.5, open_s=5.0, probes=2)


def _broken(now: float = 0.0) -> Breaker:
    breaker = CLOSED
    for _ in range(3):
        breaker = breaker.recorded(False, now, SETTINGS)
    return breaker


def test_three_failures_in_a_row_open_it_for_a_while() -> None:
    breaker = _broken()
    assert not breaker.allows(4.9)
    assert breaker.retry_after_s(1.0) == pytest.approx(4.0)
    assert breaker.allows(5.0)


def test_one_probe_at_a_time_and_two_close_it() -> None:
    half_open = _broken().started(5.0, SETTINGS)
    assert not half_open.allows(5.1)
    once = half_open.recorded(True, 5.2, SETTINGS)
    assert (once.closed, once.allows(5.3)) == (False, True)
    assert once.started(5.3, SETTINGS).recorded(True, 5.4, SETTINGS).closed


def test_a_probe_whose_outcome_is_never_heard_of_does_not_block_for_ever() -> None:
    half_open = _broken().started(5.0, SETTINGS)
    assert half_open.allows(10.1)


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    breaker, now, waits = _broken(), 0.0, []
    for _ in range(6):
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        breaker = breaker.started(now, SETTINGS).recorded(False, now, SETTINGS)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_rare_failures_never_open_it() -> None:
    breaker = CLOSED
    for i in range(1_000):
        breaker = breaker.recorded(i % 3 != 2, i * 0.1, SETTINGS)
    assert breaker.closed


def test_old_failures_are_forgotten() -> None:
    breaker = CLOSED
    for i in range(3):
        breaker = breaker.recorded(False, i * 120.0, SETTINGS)
    assert breaker.closed


def test_a_call_from_before_it_opened_tells_nothing() -> None:
    breaker = _broken()
    assert breaker.recorded(True, 1.0, SETTINGS) == breaker == breaker.recorded(False, 1.0, SETTINGS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window_s", 0.0),
        ("window_s", float("nan")),
        ("open_s", -1.0),
        ("min_calls", 0.0),
        ("failure_share", 1.5),
        ("probes", 0),
        ("open_max_s", 1.0),
    ],
)
def test_settings_that_make_no_sense(field: str, value: float) -> None:
    with pytest.raises(InvalidInput):
        BreakerSettings(**{field: value})  # type: ignore[arg-type]


class Calls(RuleBasedStateMachine):
    """Calls that go well or fail, at any pace, with outcomes that may never arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now = CLOSED, 0.0

    @rule(seconds=st.floats(0.0, 90.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.allows(self.now))
    @rule(ok=st.booleans(), heard=st.booleans(), took=st.floats(0.0, 2.0))
    def call(self, ok: bool, heard: bool, took: float) -> None:
        was_closed = self.breaker.closed
        self.breaker = self.breaker.started(self.now, SETTINGS)
        assert was_closed or not self.breaker.allows(self.now)
        self.now += took
        if not heard:
            return
        after = self.breaker.recorded(ok, self.now, SETTINGS)
        assert not (ok and was_closed) or after.closed
        assert ok or was_closed or not after.allows(self.now)
        self.breaker = after

    @invariant()
    def it_always_lets_a_call_through_in_the_end(self) -> None:
        assert self.breaker.allows(self.now + SETTINGS.open_max_s + SETTINGS.open_s)
        assert self.breaker.retry_after_s(self.now) <= SETTINGS.open_max_s + 1e-6

    @invariant()
    def the_stated_wait_is_the_wait(self) -> None:
        assert self.breaker.allows(self.now + self.breaker.retry_after_s(self.now) + 1e-6)


TestCalls = Calls.TestCase
TestCalls.settings = settings(deadline=None, max_examples=60)


def test_extra_calls_stay_within_their_share() -> None:
    tokens, extra = Tokens(), 0
    for _ in range(10_000):
        tokens = tokens.earned()
        after = tokens.taken()
        if after is not None:
            tokens, extra = after, extra + 1
    assert extra <= EXTRA_SHARE * 10_000 + EXTRA_BURST
    assert extra >= EXTRA_SHARE * 10_000 - 1


def test_a_retry_waits_as_asked_and_only_inside_the_deadline() -> None:
    tokens = Tokens(1.0)
    assert retry_delay_ms(tokens, 500.0, 100.0, 300.0, attempt=0) == 300.0
    assert retry_delay_ms(tokens, 500.0, 100.0, 401.0, attempt=0) is None
    assert retry_delay_ms(tokens, 500.0, 100.0, None, attempt=2) == 40.0
    assert retry_delay_ms(Tokens(0.9), 500.0, 100.0, None, attempt=0) is None
