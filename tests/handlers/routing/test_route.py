"""Given instances that come and go, when the route is stepped, it moves before them and not too often."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from handlers.routing.route import DRAIN_S, HOLD_S, Route, step_route
from handlers.routing.types import Topology


def test_a_fixed_topology_never_moves() -> None:
    move = step_route("split", Route(), ready=0, target=0, now=1e6)
    assert (move.route.topology, move.target, move.moved) == (Topology.SPLIT, 0, False)


def test_it_moves_when_the_first_instance_is_ready_and_not_before() -> None:
    assert not step_route("auto", Route(), ready=0, target=1, now=1e6).moved
    move = step_route("auto", Route(), ready=1, target=1, now=1e6)
    assert (move.route, move.moved) == (Route(Topology.SPLIT, 1e6), True)


def test_the_last_instance_waits_until_the_route_has_left_it() -> None:
    split = Route(Topology.SPLIT, 0.0)
    leaving = step_route("auto", split, ready=1, target=0, now=1_000.0)
    assert (leaving.route.topology, leaving.target) == (Topology.COLOCATED, 1)
    early = step_route("auto", leaving.route, ready=1, target=0, now=1_000.0 + DRAIN_S - 1.0)
    assert early.target == 1
    late = step_route("auto", leaving.route, ready=1, target=0, now=1_000.0 + DRAIN_S)
    assert late.target == 0


def test_an_endpoint_that_dies_is_left_at_once() -> None:
    move = step_route("auto", Route(Topology.SPLIT, 999.0), ready=0, target=2, now=1_000.0)
    assert (move.route.topology, move.target) == (Topology.COLOCATED, 2)


class Minutes(RuleBasedStateMachine):
    """A minute a step, with any wish for capacity and instances that may die."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.ready, self.now = Route(), 0, 1e6
        self.moves: list[tuple[float, Topology]] = []
        self.colocated_since = 0.0

    @rule(wish=st.integers(0, 3), dies=st.integers(0, 9))
    def minute(self, wish: int, dies: int) -> None:
        self.now += 60.0
        if dies == 0:
            self.ready = 0
        before = self.ready
        move = step_route("auto", self.route, self.ready, wish, self.now)
        if self.route.topology is Topology.SPLIT and before > 0:
            assert move.target > 0  # never taken away under the front
        if move.target == 0 and before > 0:
            assert self.now - self.route.since >= DRAIN_S
        if move.moved:
            if move.route.topology is Topology.SPLIT:
                assert before > 0
                assert not self.moves or self.now - self.moves[-1][0] >= HOLD_S
            self.moves.append((self.now, move.route.topology))
        self.route, self.ready = move.route, move.target


TestMinutes = Minutes.TestCase
TestMinutes.settings = settings(deadline=None, max_examples=60)
