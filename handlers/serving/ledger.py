"""The budgets of one sandbox: an account per scope, covered by grants that are asked for ahead of need."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple, Protocol

from handlers.routing.budget import Account, Budget, BudgetView, budgets_of

MAX_SCOPES = 512
"""Accounts of callers kept in memory; the longest unused one goes first, and what it had left of its grant
with it, which errs towards refusing early."""


class Counter(Protocol):
    """The shared counter, as `adapters.budget_store` has it."""

    def covered(self, account: Account, budget: Budget, cost_usd: float, now: float) -> Account:
        """The account, with a grant where a request of `cost_usd` needs one."""
        ...


class Asked(NamedTuple):
    """A grant on its way: the account as it was when it was asked for, and as it will be."""

    before: Account
    after: Future[Account]


class NoCounter:
    """Where there is no shared table: one grant a window on credit."""

    def covered(self, account: Account, budget: Budget, cost_usd: float, now: float) -> Account:
        """As `Counter.covered`."""
        account = account.at(budget.key(now))
        wanted = account.wanted_usd(budget, cost_usd)
        return account if wanted is None else account.unreachable(wanted)


class Ledger:
    """Accounts by scope; times are epoch seconds, money USD. `pool` waits for the counter."""

    def __init__(self, raw: Mapping[str, Any], model: str, counter: Counter, pool: Executor) -> None:
        budgets_of(raw, model, "")  # a wrong setting stops the function at init, not at the first request
        self._raw = raw
        self._model = model
        self._counter = counter
        self._pool = pool
        self._accounts: dict[str, Account] = {}
        self._asked: dict[str, Asked] = {}

    def views(self, caller: str, cost_usd: float, now: float) -> tuple[BudgetView, ...]:
        """What `decide` should know before a request of `cost_usd` by `caller`."""
        if not self._raw:
            return ()
        return tuple(
            self._view(budget, cost_usd, now) for budget in budgets_of(self._raw, self._model, caller)
        )

    def charge(self, caller: str, cost_usd: float) -> None:
        """A request of `caller` has cost so much."""
        if self._raw:
            for budget in budgets_of(self._raw, self._model, caller):
                account = self._accounts.get(budget.scope)
                if account is not None:
                    self._accounts[budget.scope] = account.charged(cost_usd)

    def _view(self, budget: Budget, cost_usd: float, now: float) -> BudgetView:
        scope = budget.scope
        account = self._accounts.pop(scope, Account()).at(budget.key(now))
        if account.wanted_usd(budget, cost_usd) is not None and scope not in self._asked:
            after = self._pool.submit(self._counter.covered, account, budget, cost_usd, now)
            self._asked[scope] = Asked(account, after)
        asked = self._asked.get(scope)
        if asked is not None and (asked.after.done() or account.must_wait(cost_usd)):
            del self._asked[scope]
            account = account.joined(asked.before, asked.after.result())
        self._accounts[scope] = account
        if len(self._accounts) > MAX_SCOPES:
            longest_unused = next(iter(self._accounts))
            del self._accounts[longest_unused]
            self._asked.pop(longest_unused, None)
        return account.view(budget, cost_usd, now)
