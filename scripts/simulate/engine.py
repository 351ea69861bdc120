"""The replay: every request of a trace through the real `decide`, every tick through a scaler.

`decide` is pure. Within one snapshot all requests of a trace are alike to it, except those that explore, so
its answers are remembered per snapshot: the same function on the same inputs, never a second policy.

The control loop publishes a snapshot each tick, and while instances start it looks for them in between: one
that becomes ready is used `NOTICED_S` later; one that dies is noticed at once, by the calls that fail. The
endpoint refuses what it cannot answer in time, and the router then answers on the CPU at once. Not
replayed: hedged calls (no tokens are handed out), the sandboxes' breakers (a refusal is not a failure).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from typing import cast

import numpy as np

from handlers.routing.policy import STANDBY_MARGIN_MS, decide, gpu_within_ms
from handlers.routing.profile import GpuProfile
from handlers.routing.snapshot import Topology
from handlers.routing.types import Decision, Local, Path, Request

from .design import Design, snapshot_of
from .draws import ASKS_GPU, EXPLORES, Draws, needing
from .fleet import BATCH_DONE, BATCH_TIMER, INSTANCE_LOST, INSTANCE_READY, Fleet, Instance
from .outcome import CASCADE, CPU, GPU, REFUSED, STANDBY, Outcome, Tally, outcome_of, price_list
from .relaxed import TICK_S
from .sandboxes import COLD, THROTTLED, Sandboxes
from .scaling import Seen
from .scenario import Scenario
from .trace import Trace

TICK, ESCALATE, NOTICED = 0, 5, 6
NOTICED_S = 15.0
"""From ready to used: the loop looks every `control.WATCH_S`, sandboxes read what it publishes each 15 s."""


def replay(
    scenario: Scenario,
    trace: Trace,
    design: Design,
    draws: Draws,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Replay a trace under one design."""
    run = _Run(scenario, trace, design, draws, seed)
    run.through(progress)
    return run.outcome()


class _Run:
    def __init__(self, scenario: Scenario, trace: Trace, design: Design, draws: Draws, seed: int) -> None:
        self.scenario, self.trace, self.design, self.draws = scenario, trace, design, draws
        self.arrivals = array("d", trace.times.tobytes())
        self.counts = trace.counts(1.0)
        cloud, economics = scenario.cloud, scenario.economics
        self.random = np.random.default_rng([seed, 271828])
        self.tally = Tally.of(trace.requests)
        self.model = Sandboxes(cloud.keep_alive_s, cloud.concurrency, cloud.burst_per_10s)
        self.front = Sandboxes(cloud.keep_alive_s, cloud.concurrency, cloud.burst_per_10s)
        self.model_gb, self.front_gb = economics.model_memory_mb / 1024.0, economics.front_memory_mb / 1024.0
        self.slo_s = scenario.latency_slo_ms / 1000.0
        self.deadline_s = self.slo_s - STANDBY_MARGIN_MS / 1000.0
        # Past this a front has asked for the CPU answer too (`standby_after_ms`), whoever answers in the end.
        self.late_s = self.slo_s
        self.init_s = scenario.profile.cpu.init_ms / 1000.0
        if cloud.snap_start:
            self.init_s = cloud.snap_start.restore_ms / 1000.0
            self.tally.cached_gb = self.model_gb
        self.request = Request(scenario.latency_slo_ms, scenario.attainment)
        self.events: list[tuple[float, int, int, Instance | int | None]] = []
        self.serial = 0
        self.scaler = design.scaler()
        self.snapshot = snapshot_of(scenario, design, 0, 0, 0.0)
        self.courses: dict[int, Decision] = {}
        self.fleet: Fleet | None = None
        self.began: dict[int, tuple[float, float, bool, bool]] = {}
        gpu = scenario.profile.gpu
        if gpu is not None and self.snapshot.gpu is not None:
            wait_s = gpu.max_wait_ms / 1000.0 if gpu.max_batch > 1 else 0.0
            self.fleet = Fleet(self.snapshot.gpu, wait_s, self._schedule)
            for _ in range(self.scaler.first):
                instance = self.fleet.order(-gpu.startup_s, 0.0)
                self.fleet.became_ready(instance)
            self._publish(0.0)
            self._schedule(TICK_S, TICK, None)
        self.needs = needing(scenario, draws)
        self.needing = self.needs.tobytes()

    def _schedule(self, at: float, kind: int, what: Instance | int | None) -> None:
        self.serial += 1
        heappush(self.events, (at, self.serial, kind, what))

    def _publish(self, now: float) -> None:
        fleet = self.fleet
        ready, starting = (len(fleet.ready), len(fleet.starting)) if fleet else (0, 0)
        known = self.snapshot.gpu
        if known is None or (ready, starting) != (known.ready, known.starting):
            self.snapshot = snapshot_of(self.scenario, self.design, ready, starting, now)
            self.courses = {}
        self.tally.capacity.append((now, ready, starting))

    def through(self, progress: Callable[[int], None]) -> None:
        arrivals, events = self.arrivals, self.events
        arrive = self._arrive
        for i, now in enumerate(arrivals):
            while events and events[0][0] <= now:
                self._event(heappop(events))
            arrive(i, now)
            if not i & 0xFFFF:
                progress(i)
        end = self.trace.duration_s
        while events and (events[0][0] <= end or self.began):
            self._event(heappop(events))
        self._close(max(end, 0.0))
        progress(len(arrivals))

    def _event(self, event: tuple[float, int, int, Instance | int | None]) -> None:
        now, _, kind, what = event
        fleet = self._endpoint()
        if kind == TICK:
            self._tick(now, fleet)
        elif kind == NOTICED:
            self._publish(now)
        elif kind == ESCALATE:
            request = cast(int, what)
            if not fleet.call(request, now, self.arrivals[request] + self.deadline_s):
                self._answered(request, now, False)
        else:
            instance = cast(Instance, what)
            if kind == BATCH_DONE:
                for i in fleet.done(now, instance):
                    self._answered(i, now, True)
            elif kind == BATCH_TIMER:
                fleet.timer(now, instance)
            elif kind == INSTANCE_READY:
                fleet.became_ready(instance)
                self._schedule(now + NOTICED_S, NOTICED, None)
                self._schedule_loss(now, instance)
            elif kind == INSTANCE_LOST:
                for i in fleet.lose(now, instance):
                    self._answered(i, now, False)
                self._publish(now)
        if fleet.dropped:
            self._dropped(now, fleet)

    def _dropped(self, now: float, fleet: Fleet) -> None:
        dropped, fleet.dropped = fleet.dropped, []
        for i in dropped:
            self._answered(i, now, False)

    def _endpoint(self) -> Fleet:
        if self.fleet is None:
            raise RuntimeError("an event of the endpoint in a design that has none")
        return self.fleet

    def _schedule_loss(self, now: float, instance: Instance) -> None:
        life_h = self.scenario.cloud.instance_life_h
        if life_h > 0.0:
            self._schedule(now + self.random.exponential(life_h * 3600.0), INSTANCE_LOST, instance)

    def _tick(self, now: float, fleet: Fleet) -> None:
        if now > self.trace.duration_s:
            return
        self._schedule(now + TICK_S, TICK, None)
        ready, starting = len(fleet.ready), len(fleet.starting)
        counts = self.counts[int(now - TICK_S) : int(now)].tolist()
        share = self.scenario.escalation_share
        target, reason = self.scaler.target(Seen(now, TICK_S, counts, ready, starting, share))
        target = min(max(target, 0), self.scenario.max_instances)
        gpu = cast(GpuProfile, self.scenario.profile.gpu)
        if target != ready + starting:
            self.tally.actions.append((now, ready + starting, target, reason))
        for _ in range(target - ready - starting):
            spread = self.scenario.cloud.startup_spread
            delay_s = gpu.startup_s * (1.0 + spread * (2.0 * self.random.random() - 1.0))
            fleet.order(now, now + delay_s)
        if target < ready + starting:
            fleet.retire(now, ready + starting - target)
        self._publish(now)

    def _course(self, explores: int, now: float) -> Decision:
        request = self.request
        if explores == EXPLORES:
            request = request._replace(draw=0.0)
        elif explores == ASKS_GPU:
            request = request._replace(path=Path.GPU)
        course = self.courses[explores] = decide(request, self.snapshot, Local(), now)
        if course.path is Path.GPU and self.snapshot.topology is Topology.SPLIT:
            self.late_s = course.standby_after_ms / 1000.0
        return course

    def _arrive(self, i: int, now: float) -> None:
        explores = self.draws.explores[i]
        course = self.courses.get(explores) or self._course(explores, now)
        tally = self.tally
        split = self.snapshot.topology is Topology.SPLIT
        pool = self.front if split else self.model
        got = pool.acquire(now)
        if got == THROTTLED:
            self._refuse(i)
            return
        tally.invocations += 1
        init_s = 0.0
        if got == COLD:
            init_s = self._cold(
                self.front_gb if split else self.model_gb,
                self.scenario.cloud.front_init_ms / 1000.0 if split else self.init_s,
            )
        cpu_s = self.draws.cpu_s[i]
        if course.path is Path.GPU:
            self.began[i] = (now, init_s, split, False)
            within_s = self.deadline_s
            if not course.standby_degrades:
                within_s = min(within_s, gpu_within_ms(course) / 1000.0)
            within_s -= self.draws.network_s[i]
            if self.fleet is not None and not self.draws.gpu_fails[i]:
                if self.fleet.call(i, now, now + within_s):
                    return
                if self.needing[i] and course.degraded_below is not None and not course.standby_degrades:
                    self._after_refusal(i, course)
                    return
            self._answered(i, now + init_s + self.draws.network_s[i], False)
            return
        busy_s = cpu_s
        if split:
            busy_s += self.draws.network_s[i]
            model_init_s = self._model_call(now, cpu_s)
            if model_init_s < 0.0:
                self.front.hold(now + init_s)
                self._refuse(i)
                return
            busy_s += model_init_s
        end = now + init_s + busy_s
        needs = self.needing[i]
        if needs and course.escalate_below is not None:
            left_s = self.slo_s - (end - now)
            if left_s * 1000.0 >= course.gpu_needs_ms:
                self.began[i] = (now, init_s, split, True)
                tally.escalations += 1
                if not split:
                    tally.work_gb_s += cpu_s * self.model_gb
                self._schedule(end, ESCALATE, i)
                return
        if split:
            tally.wait_gb_s += busy_s * self.front_gb
        else:
            tally.work_gb_s += busy_s * self.model_gb
        pool.hold(end)
        tally.latency_s[i] = end - now
        tally.degraded[i] = needs

    def _after_refusal(self, i: int, course: Decision) -> None:
        """The endpoint had no room at once; the CPU's answer is not confident, and so asks once more."""
        arrived, init_s, split, _ = self.began[i]
        cpu_s, hop_s = self.draws.cpu_s[i], self.draws.network_s[i]
        end = arrived + init_s + cpu_s
        if split:
            end += 2.0 * hop_s + max(0.0, self._model_call(arrived + hop_s, cpu_s))
        else:
            self.tally.work_gb_s += cpu_s * self.model_gb
        self.began[i] = (arrived, init_s, split, True)
        if (arrived + self.slo_s - end) * 1000.0 < course.gpu_needs_ms:
            self._answered(i, end, False)
            return
        self.tally.escalations += 1
        self._schedule(end, ESCALATE, i)

    def _refuse(self, i: int) -> None:
        self.tally.served[i] = REFUSED
        self.tally.throttled += 1

    def _cold(self, gb: float, init_s: float) -> float:
        self.tally.cold_starts += 1
        self.tally.init_gb_s += init_s * gb
        if self.scenario.cloud.snap_start and gb == self.model_gb:
            self.tally.restored_gb += gb
        return init_s

    def _model_call(self, now: float, cpu_s: float) -> float:
        """Invoke the model's function from the front: its cold start in s, −1 when throttled."""
        got = self.model.acquire(now)
        if got == THROTTLED:
            return -1.0
        self.tally.invocations += 1
        init_s = self._cold(self.model_gb, self.init_s) if got == COLD else 0.0
        self.tally.work_gb_s += cpu_s * self.model_gb
        self.model.hold(now + init_s + cpu_s)
        return init_s

    def _answered(self, i: int, now: float, ok: bool) -> None:
        """The GPU answered, or failed; or the deadline came first and the standby answered."""
        arrived, init_s, split, cascade = self.began.pop(i)
        tally = self.tally
        last = arrived + self.deadline_s
        end = max(now, arrived + init_s) + self.draws.network_s[i]
        cpu_s = self.draws.cpu_s[i]
        if ok and split and not cascade and end - arrived > self.late_s:
            self._model_call(arrived + self.late_s, cpu_s)
        if ok and not (split or cascade or self.needing[i] or self.draws.explores[i] == ASKS_GPU):
            ok = end <= arrived + init_s + cpu_s  # else the CPU's answer, as good, was there first
            now = min(now, end) if ok else arrived + init_s + cpu_s
        if ok and end <= last:
            tally.served[i] = CASCADE if cascade else GPU
        else:
            tally.served[i] = CPU if cascade else STANDBY
            tally.degraded[i] = self.needing[i]
            end = min(max(now, arrived), last) if not ok else last
            if not cascade:
                end = self._standby(arrived, init_s, split, end, cpu_s, self.draws.network_s[i])
        held_s = end - arrived - init_s
        if split:
            tally.wait_gb_s += held_s * self.front_gb
            self.front.hold(end)
        else:
            tally.wait_gb_s += (held_s - (cpu_s if cascade else 0.0)) * self.model_gb
            self.model.hold(end)
        tally.latency_s[i] = end - arrived

    def _standby(
        self, arrived: float, init_s: float, split: bool, asked: float, cpu_s: float, hop_s: float
    ) -> float:
        """When the CPU answer that stood by goes out: at once where it is computed, else when it is."""
        if not split:
            return max(asked, arrived + init_s + cpu_s)
        late = arrived + max(init_s, self.deadline_s - cpu_s - hop_s)
        start = min(asked, late)
        model_init_s = self._model_call(start, cpu_s)
        return max(asked, start + max(model_init_s, 0.0) + cpu_s + hop_s)

    def _close(self, end: float) -> None:
        if self.fleet is None:
            return
        billed = self.scenario.profile.gpu is not None and self.scenario.profile.gpu.startup_billed
        for one in self.fleet.every:
            stop = one.ended if one.ended >= 0.0 else max(end, one.ordered_s)
            begin = min(one.ready_s, stop)
            self.tally.instance_s += max(0.0, stop - begin)
            self.tally.startup_s += max(0.0, begin - one.ordered_s) if billed else 0.0
            self.tally.starts += 1

    def outcome(self) -> Outcome:
        return outcome_of(
            self.design.name,
            self.tally,
            self.draws,
            self.needs,
            price_list(self.scenario),
            self.scenario.latency_slo_ms,
            self.trace.duration_s,
        )
