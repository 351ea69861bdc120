"""Given a slow shared counter, when requests come, then none waits for it until the trust is used up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from handlers.routing.budget import AHEAD, Account, Budget
from handlers.serving.ledger import MAX_SCOPES, Ledger

NOW = 1_800_000_000.0
COST = 0.001


class Counter:
    """A shared counter of one sandbox that answers when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.asked: list[float] = []

    def covered(self, account: Account, budget: Budget, cost_usd: float, now: float) -> Account:
        self.asked.append(account.left_usd)
        assert self.let.wait(10.0)
        wanted = account.wanted_usd(budget, cost_usd)
        return account if wanted is None else account.granted(wanted, 0.0)


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def one(ledger: Ledger, caller: str = "her") -> float:
    """One request; returns the share of the budget that it saw as spent."""
    (view,) = ledger.views(caller, COST, NOW)
    ledger.charge(caller, COST)
    return view.spent_share


def test_a_slow_counter_holds_up_no_request_until_five_are_owed(pool: Executor) -> None:
    counter = Counter()
    ledger = Ledger({"usd": 1.0}, "digits", counter, pool)
    for _ in range(int(AHEAD)):
        one(ledger)  # would wait for ever
    assert len(counter.asked) == 1

    waiting = pool.submit(one, ledger)
    time.sleep(0.05)
    assert not waiting.done(), "what is owed is bounded"
    counter.let.set()
    assert waiting.result(10.0) < 1.0


def test_the_next_grant_is_asked_for_before_the_last_is_used_up(pool: Executor) -> None:
    counter = Counter()
    counter.let.set()
    ledger = Ledger({"usd": 10.0}, "digits", counter, pool)
    for _ in range(40):
        one(ledger)
        time.sleep(0.001)
    assert len(counter.asked) > 1
    assert all(0.0 < left < AHEAD * COST for left in counter.asked[1:])


def test_what_a_late_grant_brings_keeps_what_was_charged_meanwhile() -> None:
    before = Account().at("today")
    after = before.granted(0.02, 0.5)
    now = before.charged(0.003).charged(0.004).joined(before, after)
    assert now.left_usd == pytest.approx(0.013)
    assert now.shared_usd == 0.5


def test_a_late_grant_of_another_window_is_dropped() -> None:
    before = Account().at("today")
    assert before.at("tomorrow").joined(before, before.granted(0.02, 0.5)).granted_usd == 0.0


def test_callers_that_come_once_do_not_fill_the_memory(pool: Executor) -> None:
    counter = Counter()
    counter.let.set()
    ledger = Ledger({"caller_usd": 1.0}, "digits", counter, pool)
    for number in range(MAX_SCOPES + 10):
        one(ledger, f"caller-{number}")
    assert len(ledger._accounts) == MAX_SCOPES
    assert len(ledger._asked) <= MAX_SCOPES
