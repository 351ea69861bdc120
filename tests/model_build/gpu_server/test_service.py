"""Connections, routes and engine together, without sockets or processes: the test is the transport, the
worker and the decoder.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
import numpy as np
import pytest

from model_build.gpu_server import wire
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.batching import Curve
from model_build.gpu_server.connection import READ_SIZE, Connection, Limits
from model_build.gpu_server.engine import Engine
from model_build.gpu_server.head import read_head
from model_build.gpu_server.lane import DEPTH, Lane
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.pace import Pace
from model_build.gpu_server.service import Service
from model_build.gpu_server.spec import GraphSpec, from_json

ITEM = 50_000
SPEC = from_json(
    json.dumps({"model": "m", "release": "r", "tensors": [("x", "FP32", [ITEM]), ("y", "FP32", [1])]})
)
LIMITS = Limits(4_000_000, 3)


class Held:
    """A decoder that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []

    def decode(
        self,
        at: int,
        length: int,
        room: int,
        spec: GraphSpec,
        done: Callable[[wire.Layout | Exception], None],
    ) -> None:
        self.asked.append(lambda: done(self.layout(at, length, room, spec)))

    def layout(self, at: int, length: int, room: int, spec: GraphSpec) -> wire.Layout:
        return wire.decode_json(self.memory[at : at + room], length, spec)

    memory: memoryview


class Client:
    """A connection whose transport keeps what is written."""

    def __init__(self, house: House, direct: socket.socket | None = None) -> None:
        self.written: list[bytes] = []
        self.socket = direct
        self.closed = self.paused = False
        self.connection = Connection(house.service, house.arena, house.pace, house.clients, LIMITS)
        self.connection.connection_made(self)  # type: ignore[arg-type]  # the calls that are made of it

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _name: str) -> socket.socket | None:
        return self.socket

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def send_as_allowed(self, data: bytes) -> None:
        """Like `send`, but a connection that reads no further is left in peace meanwhile."""
        view = memoryview(data)
        while view:
            await until(lambda: not self.paused)
            view = self.send(view, whole=False)

    def send(self, data: bytes | memoryview, whole: bool = True) -> memoryview:
        """As the event loop does it: into the buffer that the connection offers. What is not sent yet."""
        view = memoryview(data)
        while view and (whole or not self.paused):
            buffer = self.connection.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.connection.buffer_updated(size)
            view = view[size:]
        return view

    @property
    def status(self) -> str:
        return self.written[-1][9:12].decode()


class House:
    """A server whose worker negates the first value of each item as soon as a batch is sent."""

    def __init__(self) -> None:
        self.metrics, self.arena = Metrics(), Arena(READ_SIZE + LIMITS.body_bytes, 8)
        self.pace = Pace(asyncio.get_running_loop())
        self.decoder, self.clients = Held(), set[Connection]()
        self.decoder.memory = self.arena.memory
        self.service = Service(self.arena, self.decoder, self.metrics, 60, lambda: (True, {}))
        self.engine = Engine(SPEC, self.arena, Curve((1, 2), (1.0, 1.0)), 0.0, self.pace, self.metrics)
        outs = [place for place in (self.arena.acquire() for _ in range(DEPTH)) if place is not None]
        self.lane = Lane(self.work, outs, lambda: None)
        self.engine.add_lane(self.lane)
        self.service.engine = self.engine
        self.batches = 0

    def work(self, message: dict[str, Any]) -> None:
        self.batches += 1
        memory = np.frombuffer(self.arena.memory, np.uint8)
        answers = [
            -memory[at + 4 * ITEM * row :][:4].view(np.float32)[0]
            for count, at in message["parts"]
            for row in range(count)
        ]
        answer = np.array(answers, np.float32)
        memory[message["out"] : message["out"] + answer.nbytes] = answer.view(np.uint8)
        reply = {"batch": message["batch"], "ms": 1.0, "errors": [], "nonfinite": [], "max_batch": None}
        asyncio.get_running_loop().call_soon(self.engine.on_reply, self.lane, reply)


def head(content_type: str, length: int) -> bytes:
    lines = f"POST /invocations HTTP/1.1\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    return lines.encode()


def json_request(first: float) -> bytes:
    row = [first] + [0.5] * (ITEM - 1)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, ITEM], "data": row}
    body = json.dumps({"inputs": [tensor]}).encode()
    assert len(body) > READ_SIZE
    return head("application/json", len(body)) + body


def binary_request(first: float, items: int = 1) -> bytes:
    rows = np.zeros((items, ITEM), np.float32)
    rows[:, 0] = first
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": rows.shape,
        "parameters": {"binary_data_size": rows.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": False}}).encode()
    kind = f"{wire.BINARY_TYPE};json-header-size={len(text)}"
    return head(kind, len(text) + rows.nbytes) + text + rows.tobytes()


def hurried(deadline_ms: int) -> bytes:
    """Two items that must be answered soon."""
    deadline = b"\r\nX-Amzn-SageMaker-Custom-Attributes: deadline_ms=%d\r\n\r\n" % deadline_ms
    return binary_request(2, items=2).replace(b"\r\n\r\n", deadline, 1)


def first_value(client: Client) -> float:
    body = client.written[-1].partition(b"\r\n\r\n")[2]
    value: float = json.loads(body)["outputs"][0]["data"][0]
    return value


def run(scenario: Callable[[House], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        await scenario(House())

    asyncio.run(whole())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_a_large_json_body_is_decoded_elsewhere_while_others_are_served() -> None:
    async def scenario(house: House) -> None:
        large, other = Client(house), Client(house)
        large.send(json_request(3))
        assert len(house.decoder.asked) == 1
        assert house.engine.busy
        other.send(binary_request(5))
        await until(lambda: other.written)
        assert (first_value(other), large.written) == (-5, [])
        house.decoder.asked.pop()()
        await until(lambda: large.written)
        assert first_value(large) == -3
        assert not house.engine.busy

    run(scenario)


def test_a_client_that_goes_while_its_body_is_decoded_frees_its_place_and_costs_no_batch() -> None:
    async def scenario(house: House) -> None:
        free = house.arena.free
        client = Client(house)
        client.send(json_request(3))
        client.connection.connection_lost(None)
        assert house.arena.free == free - 1
        house.decoder.asked.pop()()
        assert house.arena.free == free
        assert (house.batches, house.metrics.disconnected, house.engine.busy) == (0, 1, False)

    run(scenario)


def test_a_body_that_nobody_waits_for_any_more_is_promised_no_place() -> None:
    async def scenario(house: House) -> None:
        house.engine.curve = Curve((1, 2), (100.0, 100.0))
        gone, caller = Client(house), Client(house)
        gone.send(json_request(3))
        gone.connection.connection_lost(None)
        caller.send(hurried(140))
        await until(lambda: caller.written)
        assert caller.status == "200"

    run(scenario)


def test_a_swap_meanwhile_waits_for_the_body_that_is_being_decoded() -> None:
    async def scenario(house: House) -> None:
        idle: list[bool] = []
        client = Client(house)
        client.send(json_request(3))
        house.service.engine = None
        house.engine.on_idle(lambda: idle.append(True))
        assert not idle
        house.decoder.asked.pop()()
        await until(lambda: client.written)
        assert (client.status, idle) == ("200", [True])

    run(scenario)


def test_a_binary_body_is_not_copied_on_its_way_through_the_front() -> None:
    async def scenario(house: House) -> None:
        client, request = Client(house), binary_request(2, items=16)
        client.send(request)
        await until(lambda: client.written)
        tracemalloc.start()
        client.send(request)
        await until(lambda: len(client.written) == 2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(request) > 3_000_000
        assert peak < 300_000

    run(scenario)


def test_what_follows_a_refused_body_is_read_in_order() -> None:
    async def scenario(house: House) -> None:
        client = Client(house)
        late = binary_request(1, items=4).replace(
            b"\r\n\r\n", b"\r\nX-Amzn-SageMaker-Custom-Attributes: deadline_ms=0.1\r\n\r\n", 1
        )
        ping = b"GET /ping HTTP/1.1\r\n\r\n"
        await client.send_as_allowed(late + binary_request(6) + late + ping + ping + binary_request(7))
        await until(lambda: len(client.written) == 6)
        assert [data[9:12] for data in client.written] == [b"429", b"200", b"429", b"200", b"200", b"200"]
        assert [
            json.loads(client.written[n].split(b"\r\n\r\n")[1])["outputs"][0]["data"] for n in (1, 5)
        ] == [
            [-6.0],
            [-7.0],
        ]
        assert house.arena.free == 6

    run(scenario)


@pytest.mark.parametrize("earlier", [binary_request(1, items=3), json_request(1)])
def test_a_promise_counts_bodies_that_are_still_on_their_way_or_being_decoded(earlier: bytes) -> None:
    async def scenario(house: House) -> None:
        house.engine.curve = Curve((1, 2), (100.0, 100.0))
        sender, caller, later = Client(house), Client(house), Client(house)
        sender.send(earlier[: READ_SIZE + 10])
        caller.send(hurried(140))
        assert caller.status == "429"
        sender.send(earlier[READ_SIZE + 10 :])
        if house.decoder.asked:
            later.send(hurried(140))
            assert later.status == "429"
            house.decoder.asked.pop()()
        await until(lambda: sender.written and not house.engine.busy)
        caller.send(hurried(140))
        await until(lambda: len(caller.written) == 2)
        assert caller.status == "200"

    run(scenario)


def test_one_client_too_many_is_told_so_and_closed() -> None:
    async def scenario(house: House) -> None:
        clients = [Client(house) for _ in range(LIMITS.connections)]
        late = Client(house)
        assert (late.status, late.closed) == ("503", True)
        assert b"3 connections" in late.written[-1]
        assert b"Retry-After: " in late.written[-1]
        clients[0].connection.connection_lost(None)
        late.connection.connection_lost(None)
        again = Client(house)
        again.send(b"GET /ping HTTP/1.1\r\n\r\n")
        assert again.status == "200"

    run(scenario)


def test_without_a_free_place_a_request_is_refused_and_the_connection_goes_on() -> None:
    async def scenario(house: House) -> None:
        taken = [house.arena.acquire() for _ in range(house.arena.free)]
        client = Client(house)
        client.send(binary_request(1))
        assert client.status == "429"
        assert house.metrics.refused == 1
        house.arena.release(taken[0] or 0)
        client.send(binary_request(4))
        await until(lambda: len(client.written) == 2)
        assert first_value(client) == -4

    run(scenario)


def test_a_head_that_began_without_a_free_place_is_read_to_its_end() -> None:
    async def scenario(house: House) -> None:
        taken = [house.arena.acquire() for _ in range(house.arena.free)]
        client, request = Client(house), binary_request(1)
        client.send(request[:20])
        house.arena.release(taken[0] or 0)
        client.send(request[20:])
        assert client.status == "429"
        client.send(binary_request(4))
        await until(lambda: len(client.written) == 2)
        assert first_value(client) == -4

    run(scenario)


def test_an_answer_goes_straight_to_the_socket_and_what_does_not_fit_to_the_transport_behind_it() -> None:
    async def scenario(house: House) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            client = Client(house, ours)
            ping = b"GET /ping HTTP/1.1\r\n\r\n"
            client.send(ping)
            one = theirs.recv(65536)
            assert (one[9:12], client.written) == (b"200", [])
            while not client.written:
                client.send(ping)
            client.send(ping)  # behind what waits in the transport, not past it
            ours.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: theirs.recv(65536), b"")) + b"".join(client.written)
            assert received == one * (len(received) // len(one))
            assert client.written[-1] == one

    run(scenario)


def test_attributes_change_while_the_rest_of_the_head_repeats() -> None:
    lines = b"POST /invocations HTTP/1.1\r\n%bContent-Length: 3\r\n\r\n"
    name = b"X-Amzn-SageMaker-Custom-Attributes: "
    first, attributes = read_head(lines % (name + b"deadline_ms=4\r\n"))
    again, others = read_head(lines % (name.lower() + b"deadline_ms=5\r\n"))
    assert (attributes.strip(), others.strip()) == (b"deadline_ms=4", b"deadline_ms=5")
    assert again is first
    assert (first.length, first.keep_alive) == (3, True)
    assert read_head(lines % b"") == (first, b"")
    with pytest.raises(httptools.HttpParserError):
        read_head(lines % (name + b"deadline_ms=5\nContent-Length: 9\r\n"))
