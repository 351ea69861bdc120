"""What is on its way counts before what comes now, by priority, and not for ever."""

from __future__ import annotations

from dataclasses import dataclass

from model_build.gpu_server.coming import PATIENCE_S, Coming
from model_build.gpu_server.waiting import Priority


@dataclass(slots=True)
class Body:
    items: int
    priority: Priority = Priority.INTERACTIVE
    admitted_at: float = 0.0
    coming: bool = False


def test_interactive_requests_wait_for_interactive_ones_alone_and_shadow_ones_for_all() -> None:
    coming = Coming()
    coming.add(Body(3))
    coming.add(Body(5, Priority.SHADOW))
    assert coming.ahead_of(Priority.INTERACTIVE, 0.0) == 3
    assert coming.ahead_of(Priority.SHADOW, 0.0) == 8


def test_what_is_here_counts_no_more_in_whatever_order_it_comes() -> None:
    coming, first, second = Coming(), Body(3), Body(4)
    coming.add(first)
    coming.add(second)
    coming.remove(second)
    assert coming.ahead_of(Priority.INTERACTIVE, 0.0) == 3
    coming.remove(first)
    coming.remove(first)
    assert coming.ahead_of(Priority.INTERACTIVE, 0.0) == 0


def test_a_slow_client_counts_for_a_while_only() -> None:
    coming, slow = Coming(), Body(3)
    coming.add(slow)
    coming.add(Body(2, admitted_at=PATIENCE_S))
    assert coming.ahead_of(Priority.INTERACTIVE, PATIENCE_S) == 5
    assert coming.ahead_of(Priority.INTERACTIVE, PATIENCE_S * 1.1) == 2
    coming.remove(slow)
    assert coming.ahead_of(Priority.INTERACTIVE, PATIENCE_S * 1.1) == 2
