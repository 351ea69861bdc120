"""What one sandbox has seen: the only mutable object of the router. It makes `Local`, and the report.

One request at a time: `local` before the decision, `called` for each call that came back, `finished` once it
is answered. `drain` hands over what is to be reported. The clock is handed in, in epoch seconds.
"""

from __future__ import annotations

from .breaker import DEFAULT_SETTINGS, Breaker, BreakerSettings
from .budget import BudgetView
from .forecast import forecast
from .latency import BatchTable
from .learn import PRIOR_CALLS, learned, size_of
from .report import Report, add_ms, key_of
from .sketch import Sketch
from .snapshot import Latencies, Snapshot
from .tokens import Tokens
from .types import CPU, GPU, Decision, Local, Path

HALF_LIFE_S = 30.0
REFRESH_CALLS = 8
REFRESH_SHARE = 0.1
REFRESH_S = 2.0
"""Latencies are learned anew once so many calls came back, or as many as weigh this share of all that is
known, and after this time at the latest."""
KEPT_ROWS = 4
LEAST_MS = 0.01


class Observer:
    """Sketches, breakers and counts of one sandbox.

    A `front` sees the model's function only through the hop: it takes the hop's median off before it learns,
    and leaves the report of these calls to that function, which sees them exactly.
    """

    def __init__(self, settings: BreakerSettings = DEFAULT_SETTINGS, *, front: bool = False) -> None:
        self.settings, self.front = settings, front
        self.breakers = {CPU: Breaker(), GPU: Breaker()}
        self.tokens = Tokens()
        self.report = Report()
        self._recent: dict[str, Sketch] = {}
        self._fresh: list[tuple[Path, BatchTable, int, bool, float, bool]] = []
        self._answered: list[tuple[int, float, bool, float, bool, int, int]] = []
        self._faded_at = 0.0
        self._enough = float(REFRESH_CALLS)
        self._latencies: Latencies | None = None
        self._prior: Latencies | None = None

    def local(
        self,
        snapshot: Snapshot,
        now: float,
        *,
        cold: bool = False,
        gpu_in_flight: float | None = None,
        budgets: tuple[BudgetView, ...] = (),
    ) -> Local:
        """Return what `decide` should know besides the snapshot."""
        due = len(self._fresh) >= self._enough or now - self._faded_at >= REFRESH_S
        if self._prior is not snapshot.latencies or (due and (self._fresh or self._recent)):
            self._refresh(snapshot.latencies, now)
        cpu, gpu = self.breakers[CPU], self.breakers[GPU]
        return Local(cold, cpu, gpu, gpu_in_flight, self.tokens.left, self._latencies, budgets)

    def started(self, path: Path, now: float) -> None:
        """Note that a call was sent on `path`: a breaker that is half open counts it as its probe."""
        self.breakers[path] = self.breakers[path].started(now, self.settings)

    def called(
        self,
        path: Path,
        items: int,
        ms: float,
        now: float,
        snapshot: Snapshot,
        *,
        ok: bool = True,
        cold: bool = False,
    ) -> None:
        """Note a call that came back after `ms`, or failed; failures count for the breaker only."""
        self.breakers[path] = self.breakers[path].recorded(ok, now, self.settings)
        reported = path is GPU or not self.front
        if reported:
            self.report.counts[path] += 1
        if not ok:
            self.report.counts[f"{path.value}_failed"] += 1
            return
        if not reported:
            ms = max(ms - snapshot.latencies.hop.at(0.5), LEAST_MS)
        table = snapshot.latencies.cpu if path is CPU else snapshot.latencies.gpu
        if table is None or ms <= 0.0:
            return
        if path is GPU:
            self.report.counts["gpu_busy_ms"] += ms
        self._fresh.append((path, table, items, cold, ms, reported))

    def finished(
        self,
        decision: Decision,
        ms: float,
        cost_usd: float,
        now: float,
        *,
        degraded: bool = False,
        escalated: int = 0,
        missed: int = 0,
    ) -> None:
        """Note a request that was answered `ms` after its arrival; `escalated` and `missed` are items."""
        self.tokens = self.tokens.earned()
        second, met = int(now - ms / 1000.0), ms <= decision.deadline_ms
        self._answered.append((second, decision.taken.p_meet, met, cost_usd, degraded, escalated, missed))

    def take_token(self) -> bool:
        """Take a token for one extra call, if there is one."""
        after = self.tokens.taken()
        if after is not None:
            self.tokens = after
        return after is not None

    def drain(self) -> Report:
        """Hand over what was seen since the last time, and begin anew."""
        self._fold()
        report, self.report = self.report, Report()
        return report

    def _fold(self) -> None:
        """Count what came back and was answered since the last time: many at once cost less than one each."""
        for path, table, items, cold, ms, reported in self._fresh:
            key = key_of(path, size_of(table, items), cold)
            add_ms(self._recent, key, ms)
            if reported:
                add_ms(self.report.sketches, key, ms)
        self._fresh.clear()
        counts, arrivals = self.report.counts, self.report.arrivals
        for second, p_meet, met, cost_usd, degraded, escalated, missed in self._answered:
            arrivals[second] = arrivals.get(second, 0.0) + 1.0
            counts["requests"] += 1
            counts["escalated"] += escalated
            counts["missed"] += missed
            counts["degraded"] += degraded
            counts["met"] += met
            counts["expected_met"] += p_meet
            counts["cost_usd"] += cost_usd
        self._answered.clear()

    def _refresh(self, prior: Latencies, now: float) -> None:
        self._fold()
        kept = 0.5 ** (max(0.0, now - self._faded_at) / HALF_LIFE_S) if self._faded_at else 1.0
        for key, sketch in list(self._recent.items()):
            sketch.fade(kept)
            if not sketch.buckets:
                del self._recent[key]
        self._faded_at, self._prior = now, prior
        known = PRIOR_CALLS + sum(sketch.count for sketch in self._recent.values())
        self._enough = max(REFRESH_CALLS, REFRESH_SHARE * known)
        before, self._latencies = self._latencies, learned(prior, self._recent)
        for row in list(before.rows)[:KEPT_ROWS] if before is not None else ():
            forecast(self._latencies, *row)  # here, so that no decision has to wait for it
