"""The engine's books with a clock and a worker that the test moves by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from handlers.errors import EndpointFailed, EndpointTimeout, InvalidInput, Refused
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.batching import Curve
from model_build.gpu_server.engine import Engine
from model_build.gpu_server.lane import Lane
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.spec import GraphSpec, RowSpec
from model_build.gpu_server.waiting import Priority, Request

FLOAT = np.dtype(np.float32)
SPEC = GraphSpec("m", "r", (RowSpec("x", "FP32", FLOAT, (1,), 4),), RowSpec("y", "FP32", FLOAT, (1,), 4))


class Clock:
    """Time stands still until `move`."""

    lag = 0.0  # as if the loop had just paused

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], Any]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], Any], /) -> Any:
        entry = (when, callback)
        self.timers.append(entry)
        timers = self.timers

        class Handle:
            def cancel(self) -> None:
                if entry in timers:
                    timers.remove(entry)

        return Handle()

    def move(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


class House:
    """An engine with one worker of at most four items a batch, 10 ms a batch, 2 ms of wait."""

    def __init__(self) -> None:
        self.clock, self.arena, self.metrics = Clock(), Arena(4096, 40), Metrics()
        self.engine = Engine(SPEC, self.arena, Curve((1, 4), (10.0, 10.0)), 0.002, self.clock, self.metrics)
        self.sent: list[dict[str, Any]] = []
        outs = [slot for slot in (self.arena.acquire(), self.arena.acquire()) if slot is not None]
        self.lane = Lane(self.sent.append, outs, self.collect)
        self.engine.add_lane(self.lane)
        self.done: list[Request] = []
        self.ready = 0

    def submit(self, value: float, items: int = 1, ms: float = 1000, priority: int = 0) -> Request:
        place = self.arena.acquire()
        assert place is not None
        rows = np.full(items, value, np.float32)
        self.arena.memory[place : place + rows.nbytes] = rows.tobytes()
        now = self.clock.now
        request = Request(items, (place,), now, now + ms / 1000, self.done.append, Priority(priority), now)
        self.engine.submit(request)
        return request

    def collect(self) -> None:
        """What the worker had ready, unseen by the event loop."""
        ready, self.ready = self.ready, 0
        for _ in range(ready):
            self.reply()

    def reply(self, **changes: Any) -> None:
        """The worker answers its oldest batch: each input doubled."""
        message = self.sent.pop(0)
        memory = np.frombuffer(self.arena.memory, np.uint8)
        row = message["out"]
        for count, offset in message["parts"]:
            values = memory[offset : offset + 4 * count].view(np.float32) * 2
            memory[row : row + 4 * count] = values.view(np.uint8)
            row += 4 * count
        base = {"batch": message["batch"], "ms": 10.0, "errors": [], "nonfinite": [], "max_batch": None}
        self.engine.on_reply(self.lane, base | changes)


def values(request: Request) -> list[float]:
    return np.frombuffer(request.output, np.float32).tolist()


def test_small_requests_ride_together_and_each_gets_its_own_rows() -> None:
    house = House()
    first, second = house.submit(1), house.submit(2, items=2)
    assert house.sent == []
    house.clock.move(0.0021)
    assert house.sent[0]["items"] == 3
    house.reply()
    assert (values(first), values(second)) == ([2], [4, 4])


def test_a_full_batch_leaves_without_waiting() -> None:
    house = House()
    for value in range(4):
        house.submit(value)
    assert [message["items"] for message in house.sent] == [4]


def test_an_answer_that_is_there_frees_the_worker_for_the_next_full_batch_at_once() -> None:
    house = House()
    for value in range(8):
        house.submit(value)
    house.ready = 2
    house.clock.now += 0.021
    for value in range(4):
        house.submit(value)
    assert len(house.done) == 8
    assert [message["items"] for message in house.sent] == [4]


def test_a_large_request_is_split_and_put_together_again() -> None:
    house = House()
    request = house.submit(3, items=10)
    while not house.done:
        if house.sent:
            house.reply()
        house.clock.move(0.003)
    assert values(request) == [6.0] * 10


def test_interactive_requests_go_before_shadow_ones_that_came_earlier() -> None:
    house = House()
    for _ in range(8):
        house.submit(0)  # two batches under way
    shadow, interactive = house.submit(1, items=4, priority=1), house.submit(2, items=4)
    house.reply()
    house.reply()
    house.reply()
    assert interactive in house.done
    assert shadow not in house.done


def test_a_batch_closes_early_for_a_deadline() -> None:
    house = House()
    house.submit(1, ms=11)
    house.clock.move(0.0006)
    assert len(house.sent) == 1


def test_a_request_that_cannot_be_answered_in_time_any_more_is_dropped_before_it_costs_anything() -> None:
    house = House()
    for _ in range(8):
        house.submit(0)
    late = house.submit(1, ms=25)
    house.clock.move(0.03)
    house.reply()
    assert isinstance(late.error, EndpointTimeout)
    assert house.metrics.dropped == 1
    assert all(message["items"] == 4 for message in house.sent)


def test_what_the_queue_cannot_meet_is_refused_with_the_predicted_wait() -> None:
    house = House()
    for _ in range(16):
        house.submit(0)
    now = house.clock.now
    wait = house.engine.too_late(1, now + 0.02, Priority.INTERACTIVE, now)
    assert wait == pytest.approx(0.05, abs=0.011)
    assert house.engine.too_late(1, now + 0.2, Priority.INTERACTIVE, now) is None


def test_the_front_s_own_lag_counts_against_a_deadline() -> None:
    house = House()
    now = house.clock.now
    assert house.engine.too_late(1, now + 0.02, Priority.INTERACTIVE, now) is None
    house.clock.lag = 0.01
    assert house.engine.too_late(1, now + 0.02, Priority.INTERACTIVE, now) == pytest.approx(0.02)


def test_only_the_request_whose_item_failed_fails() -> None:
    house = House()
    requests = [house.submit(value) for value in range(4)]
    house.reply(errors=[(2, "IndexError: index out of range")])
    assert isinstance(requests[2].error, InvalidInput)
    assert [values(requests[n]) for n in (0, 1, 3)] == [[0], [2], [6]]


def test_running_out_of_memory_is_not_blamed_on_the_input_and_halves_the_batch() -> None:
    house = House()
    request = house.submit(1, items=4)
    house.reply(errors=[(0, "OutOfMemoryError")], max_batch=2)
    assert isinstance(request.error, EndpointFailed)
    assert house.engine.curve.max_batch == 1
    assert house.metrics.out_of_memory == 1


def test_non_finite_items_are_named_by_their_place_in_the_request() -> None:
    house = House()
    house.submit(1)
    request = house.submit(2, items=3)
    house.reply(nonfinite=[2])
    assert request.nonfinite == (1,)


def test_a_client_that_goes_leaves_the_queue_or_the_batch_to_the_others() -> None:
    house = House()
    gone, stays = house.submit(1), house.submit(2)
    house.engine.cancel(gone)
    house.clock.move(0.0021)
    assert house.sent[0]["items"] == 1
    house.reply()
    assert values(stays) == [4]
    assert house.done == [gone, stays]


def test_a_lost_worker_fails_what_it_held_and_refuses_until_another_is_there() -> None:
    house = House()
    held = [house.submit(1) for _ in range(6)]
    house.engine.lose_lane(house.lane, "it died")
    assert {type(request.error) for request in held} == {Refused}
    with pytest.raises(Refused):
        house.engine.too_late(1, house.clock.now + 9, Priority.INTERACTIVE, house.clock.now)


def test_idle_is_told_once_nothing_waits_or_runs() -> None:
    house = House()
    told: list[int] = []
    house.submit(1)
    house.engine.on_idle(lambda: told.append(1))
    assert not told
    house.clock.move(0.0021)
    house.reply()
    assert told == [1]
