"""The load generator against a server whose every answer is known."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scripts.bench.gpu_load import Load, Run, percentile

BODY = b"x" * 1000


@contextmanager
def server(
    answer: bytes, at_head: bool = False, pause_s: float = 0.0, heads: list[bytes] | None = None
) -> Iterator[int]:
    """Answers each request with `answer`, when it is complete or at its head; a thread a connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            received = b""
            answered = False
            while data := connection.recv(1 << 20):
                received += data
                end = received.find(b"\r\n\r\n") + 4
                if end < 4:
                    continue
                if at_head and not answered:
                    connection.sendall(answer)
                    answered = True
                    time.sleep(0.001)
                length = int(received[:end].rsplit(b"Content-Length: ", 1)[1].split(b"\r")[0])
                if len(received) >= end + length:
                    assert received[end : end + length].count(b"x") == length
                    if heads is not None:
                        heads.append(received[:end])
                    received = received[end + length :]
                    if not at_head:
                        time.sleep(pause_s)
                        connection.sendall(answer)
                    answered = False

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def load(port: int, **changes: object) -> Load:
    base: dict[str, object] = {
        "port": port,
        "head": "POST / HTTP/1.1\r\n",
        "body": base64.b64encode(BODY).decode(),
        "rate": 200.0,
        "seconds": 0.4,
        "connections": 4,
        "warm_s": 0.0,
    }
    return Load(**(base | changes))  # type: ignore[arg-type]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"


def test_every_arrival_of_an_open_loop_is_sent_and_answered() -> None:
    with server(OK) as port:
        outcome = Run(load(port)).run()
    assert outcome.sent == outcome.statuses[200] == len(outcome.latencies_ms)
    assert 40 <= outcome.sent <= 130
    assert outcome.unanswered == 0


def test_a_closed_loop_keeps_its_connections_busy() -> None:
    with server(OK) as port:
        outcome = Run(load(port, rate=0.0)).run()
    assert outcome.sent > 200
    assert outcome.statuses.keys() == {200}


def test_all_answers_are_counted_too_those_of_the_warm_up_and_of_the_end() -> None:
    with server(OK, pause_s=0.01) as port:
        outcome = Run(load(port, rate=0.0, seconds=0.2, warm_s=0.2)).run()
    assert outcome.unanswered == 0
    assert outcome.answered > 1.5 * outcome.statuses[200]


def test_waiting_for_a_free_connection_counts_as_latency() -> None:
    pause_ms = 10
    with server(OK, pause_s=pause_ms / 1000) as port:
        slow = Run(load(port, connections=1, rate=400.0, seconds=0.1)).run()
    assert slow.sent > 20
    assert max(slow.latencies_ms) > 10 * pause_ms
    assert max(slow.lags_ms) > 9 * pause_ms


def test_what_is_left_of_the_deadline_is_sent_and_what_is_too_late_is_given_up() -> None:
    heads: list[bytes] = []
    with server(OK, pause_s=0.01, heads=heads) as port:
        outcome = Run(load(port, connections=1, rate=400.0, seconds=0.2, deadline_ms=50.0)).run()
    left_ms = [float(head.split(b"deadline_ms=")[1].split(b"\r\n")[0]) for head in heads]
    assert outcome.given_up > 20
    assert outcome.sent == len(heads)
    assert all(0 <= left <= 50 for left in left_ms)
    assert min(left_ms) < 40
    assert 0 < outcome.in_time <= outcome.sent


@pytest.mark.parametrize("size", [1000, 5_000_000])
def test_a_refusal_at_the_head_is_counted_apart_and_the_rest_of_the_body_is_still_sent(size: int) -> None:
    body = base64.b64encode(b"x" * size).decode()
    with server(BUSY, at_head=True) as port:
        outcome = Run(load(port, body=body, rate=50.0, deadline_ms=1000.0)).run()
    assert outcome.statuses.keys() == {429}
    assert (outcome.latencies_ms, outcome.in_time) == ([], 0)
    assert len(outcome.refusals_ms) == outcome.sent > 5


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert [percentile(range(100), share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
