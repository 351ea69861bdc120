"""Budgets: money for a window, shared by sandboxes that may not ask each other before each request.

A sandbox takes a *grant* from the shared counter, by a write that fails when it would pass the limit, and
spends from it alone. It asks for the next one ahead, when what is left covers fewer than `AHEAD` requests,
and goes on meanwhile; it waits for the counter only when it owes as many. With N sandboxes, grants of at
most g, c what a request costs and ε the most that one costs above its prediction:

    limit − N·(g + AHEAD·c)  ≤  money spent when the last sandbox refuses  ≤  limit + N·(AHEAD·c + ε)

Both are small beside the limit: a grant is some twenty requests, and at most a hundredth of it. Where the
shared counter cannot be reached a sandbox allows itself one grant per window on credit, then refuses: the
upper bound is then higher by N·g.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal

from handlers.errors import InvalidConfig

Window = Literal["hour", "day", "month"]
KEYS: dict[Window, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
GRANT_REQUESTS = 20.0
AHEAD = 5.0
LEAST_GRANT = 1e-4
MOST_GRANT = 1e-2


@dataclass(frozen=True, slots=True)
class BudgetView:
    """One budget as `decide` sees it: what others have taken and this sandbox has spent, in USD."""

    scope: str
    spent_usd: float
    limit_usd: float
    resets_in_s: float

    @property
    def spent_share(self) -> float:
        """Return what share of the limit is gone."""
        return self.spent_usd / self.limit_usd if self.limit_usd > 0.0 else 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """So much money for so long, for a scope: a model, or one of its callers."""

    scope: str
    limit_usd: float
    window: Window

    def key(self, now: float) -> str:
        """Return the name of the window that `now` (epoch s, UTC) is in."""
        return datetime.fromtimestamp(now, UTC).strftime(KEYS[self.window])

    def resets_in_s(self, now: float) -> float:
        """Return how long this window still lasts."""
        return self.ends_at(now) - now

    def ends_at(self, now: float) -> float:
        """Return when the window of `now` ends, in epoch s."""
        if self.window == "hour":
            return (now // 3600.0 + 1.0) * 3600.0
        if self.window == "day":
            return (now // 86400.0 + 1.0) * 86400.0
        at = datetime.fromtimestamp(now, UTC)
        year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
        return datetime(year, month, 1, tzinfo=UTC).timestamp()


def budgets_of(raw: Mapping[str, Any], model: str, caller: str) -> tuple[Budget, ...]:
    """Read `TURNOUT_BUDGET`: `usd` and `window` for the model, `caller_usd` for each caller in it.

    Raises `InvalidConfig` that names the key, its value and what is allowed.
    """
    window = raw.get("window", "day")
    if window not in KEYS:
        raise InvalidConfig("TURNOUT_BUDGET.window", window, ", ".join(KEYS))
    found = []
    for name, scope in (("usd", model), ("caller_usd", f"{model}#{caller}")):
        value = raw.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1e9:
            raise InvalidConfig(f"TURNOUT_BUDGET.{name}", value, "USD above 0")
        found.append(Budget(scope, float(value), window))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Account:
    """One sandbox's part in one budget and window: grants taken, money spent of them, the shared counter.

    `shared_usd` is the counter as last seen, this sandbox's grants included. `closed`: no more can be had.
    """

    window: str = ""
    granted_usd: float = 0.0
    spent_usd: float = 0.0
    shared_usd: float = 0.0
    on_credit: bool = False
    closed: bool = False

    @property
    def left_usd(self) -> float:
        """Return what is left of the grants; negative when requests cost more than predicted."""
        return self.granted_usd - self.spent_usd

    def at(self, window: str) -> Account:
        """Return the account in a window: a new window begins with what is owed, and nothing else."""
        if window == self.window:
            return self
        return Account(window=window, spent_usd=max(0.0, -self.left_usd))

    def wanted_usd(self, budget: Budget, cost_usd: float) -> float | None:
        """Return the grant to ask for where requests cost `cost_usd`; None when none is needed or to be had.

        Needed when fewer than `AHEAD` such requests are covered. Enough for some twenty, within a
        ten-thousandth and a hundredth of the limit, and whatever is owed.
        """
        if self.closed or self.left_usd >= AHEAD * cost_usd:
            return None
        grant = max(cost_usd * GRANT_REQUESTS, budget.limit_usd * LEAST_GRANT)
        grant = max(min(grant, budget.limit_usd * MOST_GRANT), cost_usd)
        return grant + max(0.0, -self.left_usd)

    def must_wait(self, cost_usd: float) -> bool:
        """Say whether so much is owed that not even one more request of `cost_usd` may go on trust."""
        return self.left_usd < -(AHEAD - 1.0) * cost_usd

    def joined(self, before: Account, after: Account) -> Account:
        """Return this account with what the counter made of it since it was `before`: `after`.

        Requests that were charged meanwhile stay charged; an answer about another window is dropped.
        """
        if before.window != self.window:
            return self
        return replace(
            self,
            granted_usd=self.granted_usd + after.granted_usd - before.granted_usd,
            shared_usd=after.shared_usd,
            on_credit=after.on_credit,
            closed=after.closed,
        )

    def granted(self, grant_usd: float, shared_usd: float) -> Account:
        """Return the account after the shared counter gave a grant and stood at `shared_usd`."""
        return replace(self, granted_usd=self.granted_usd + grant_usd, shared_usd=shared_usd)

    def refused(self, shared_usd: float) -> Account:
        """Return the account after the shared counter, at `shared_usd`, refused."""
        return replace(self, shared_usd=shared_usd, closed=True)

    def unreachable(self, grant_usd: float) -> Account:
        """Return the account after the shared counter could not be reached: one grant on credit a window."""
        if self.on_credit:
            return replace(self, closed=True)
        return replace(self, granted_usd=self.granted_usd + grant_usd, on_credit=True)

    def charged(self, cost_usd: float) -> Account:
        """Return the account after a request that cost so much; raises for a cost that is not one."""
        if not (isfinite(cost_usd) and cost_usd >= 0.0):
            raise InvalidConfig("cost_usd", cost_usd, "a finite amount, 0 or more")
        return replace(self, spent_usd=self.spent_usd + cost_usd)

    def view(self, budget: Budget, cost_usd: float, now: float) -> BudgetView:
        """Return what `decide` should know before a request of `cost_usd`."""
        spent = max(self.shared_usd, self.granted_usd) - self.left_usd
        if self.closed and self.left_usd < cost_usd:
            spent = max(spent, budget.limit_usd)
        return BudgetView(budget.scope, spent, budget.limit_usd, budget.resets_in_s(now))
