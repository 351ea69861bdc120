"""Budgets: how much of a window's money is gone, and what that allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetView:
    """One budget as a sandbox sees it: `spent_usd` counts every sandbox's reservations too, so it never
    understates. `resets_in_s` is how long until the window ends."""

    scope: str
    spent_usd: float
    limit_usd: float
    resets_in_s: float

    @property
    def spent_share(self) -> float:
        """Return what share of the limit is gone."""
        return self.spent_usd / self.limit_usd if self.limit_usd > 0.0 else 1.0
