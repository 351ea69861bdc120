"""An open-loop load generator for one HTTP server: Poisson arrivals, latency from the intended send time.

A generator that waits for answers before it sends hides the queue that it makes (coordinated omission);
this one sends on schedule, on a free connection of `connections` or, where all wait for answers, on the next
that becomes free. As turnout's router does, it states what is left of a deadline when it sends, and does not
send what is too late by then. Rate 0 is a closed loop, which finds the capacity.
Run as a process: `python -m scripts.bench.gpu_load JSON`, which prints one JSON document.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

DEADLINE = b"X-Amzn-SageMaker-Custom-Attributes: deadline_ms=%.1f\r\n"
GRACE_S = 10.0
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `rate`: arrivals a second, 0 for a closed loop over `connections`.

    `deadline_ms`: from the intended send time, sent and judged on (0: none). `head`: request line and headers
    but Content-Length and the deadline. `warm_s` seconds at the start are not counted. `cores`: where the
    generator may run (all, if none are named).
    """

    port: int
    head: str
    body: str
    rate: float
    seconds: float
    connections: int
    deadline_ms: float = 0.0
    warm_s: float = 0.5
    seed: int = 0
    cores: tuple[int, ...] = ()


@dataclass(slots=True)
class Outcome:
    """Latencies in ms from the intended send time, by status; of refusals from the moment that the socket has
    taken the head (a body of megabytes takes it a millisecond more than that).

    `answered`: all, the warm-up's too. `given_up`: too late before they were sent. `seconds`: over which the
    others were counted; in a closed loop from the last answer of the warm-up to the last. `lags_ms`: from the
    intended time to the send. `cpu_share`: the generator's own share of one core; below 1 it was not the
    bottleneck.
    """

    sent: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    refusals_ms: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    in_time: int = 0
    unanswered: int = 0
    given_up: int = 0
    answered: int = 0
    cpu_share: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Rates and percentiles."""
        return {
            "sent": self.sent,
            "answered_per_s": len(self.latencies_ms) / self.seconds,
            "goodput_per_s": self.in_time / self.seconds,
            "p50_ms": percentile(self.latencies_ms, 0.5),
            "p99_ms": percentile(self.latencies_ms, 0.99),
            "refused": len(self.refusals_ms),
            "refusal_p50_ms": percentile(self.refusals_ms, 0.5),
            "refusal_p99_ms": percentile(self.refusals_ms, 0.99),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "unanswered": self.unanswered,
            "given_up": self.given_up,
            "answered": self.answered,
            "send_lag_p99_ms": percentile(self.lags_ms, 0.99),
            "generator_cpu_share": self.cpu_share,
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile, None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Client:
    """One connection that carries one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")
        self.intended = self.sent = 0.0
        self.answered = False
        self._received = b""
        self._usual = 0

    def start(self, head: bytes, body: memoryview, intended: float) -> bool:
        """Send a request that was due at `intended`; False while a part of it waits for the socket."""
        self.intended, self.answered = intended, False
        try:
            taken = self.socket.sendmsg((head, body))
        except BlockingIOError:  # the server has yet to read the body of a request that it refused
            taken = 0
        self.sent = time.perf_counter()
        whole = taken < len(head)
        self.unsent = memoryview(head + body)[taken:] if whole else body[taken - len(head) :]
        return not self.unsent

    def go_on(self) -> bool:
        """Send more of the request; whether all of it is sent."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent

    def receive(self, buffer: memoryview) -> int | None:
        """The status once the answer is complete, 0 when the server closed, None when more is to come.

        `buffer` is room to read into, used again for each connection.
        """
        size = self.socket.recv_into(buffer)
        if not size:
            return 0
        if size == self._usual and not self._received:
            return int(buffer[9:12])  # as long as the last answer was in all, so it is whole
        received = self._received + bytes(buffer[:size])
        end = received.find(b"\r\n\r\n")
        if end >= 0:
            length = LENGTH.search(received, 0, end)
            if length is None or len(received) >= end + 4 + int(length[1]):
                self._received, self._usual = b"", len(received)
                return int(received[9:12])
        self._received = received
        return None


class Run:
    """One run of a load, in one thread: what is due is sent before and after each answer is taken."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._body = memoryview(base64.b64decode(load.body))
        self._head = f"{load.head}Content-Length: {len(self._body)}\r\n".encode()
        self.outcome = Outcome(seconds=load.seconds)
        self._draw = random.Random(load.seed)  # noqa: S311  # arrivals, not secrets
        self._epoll = select.epoll()
        self._buffer = memoryview(bytearray(1 << 18))
        self._clients: dict[int, Client] = {}
        self._free: list[Client] = []
        self._waiting: deque[float] = deque()
        self._next = self._from = self._end = self._before = 0.0

    def run(self) -> Outcome:
        """Connect, send for `seconds`, wait for what is under way."""
        for _ in range(self.load.connections):
            client = Client(self.load.port)
            self._clients[client.socket.fileno()] = client
            self._epoll.register(client.socket, select.EPOLLIN)
            self._free.append(client)
        start, cpu = time.perf_counter(), time.process_time()
        self._from = start + self.load.warm_s
        self._end = self._from + self.load.seconds
        closed_loop = self.load.rate == 0
        self._next = self._end if closed_loop else start + self._draw.expovariate(self.load.rate)
        for client in [self._free.pop() for _ in range(self.load.connections if closed_loop else 0)]:
            self._send(client, time.perf_counter())
        grace = self._end + GRACE_S + self.load.deadline_ms / 1000  # leaves the server idle for the next run
        while (now := time.perf_counter()) < grace:
            if now >= self._end and len(self._free) == len(self._clients):
                break
            self._fire(now)
            self._take(max(0.0, (self._next if now < self._end else grace) - time.perf_counter()))
        wall = time.perf_counter() - start
        self.outcome.cpu_share = (time.process_time() - cpu) / wall
        self.outcome.unanswered = len(self._clients) - len(self._free) + len(self._waiting)
        for client in self._clients.values():
            client.socket.close()
        self._epoll.close()
        return self.outcome

    def _fire(self, now: float) -> None:
        """Send what is due, on a free connection or on the next that becomes free."""
        while self._next <= now and self._next < self._end:
            if self._free:
                self._send(self._free.pop(), self._next)
            else:
                self._waiting.append(self._next)
            self._next += self._draw.expovariate(self.load.rate)

    def _take(self, timeout: float) -> None:
        """Wait for answers; select sleeps to the microsecond, epoll alone to the millisecond."""
        if timeout:
            select.select([self._epoll], [], [], timeout)
        for number, event in self._epoll.poll(0):
            client = self._clients[number]
            if event & select.EPOLLOUT and client.go_on():
                self._epoll.modify(number, select.EPOLLIN)
                if client.answered:  # refused while the body was still on its way
                    self._use_again(client)
            if event & ~select.EPOLLOUT:
                status = client.receive(self._buffer)
                if status == 0:
                    self._lose(number)
                elif status is not None:
                    self._count(client, status)
                    if not client.unsent:
                        self._use_again(client)
            now = time.perf_counter()
            if self._next <= now:
                self._fire(now)

    def _send(self, client: Client, intended: float) -> None:
        lag_ms = (time.perf_counter() - intended) * 1000
        head = self._head
        if self.load.deadline_ms:
            head += DEADLINE % max(0.0, self.load.deadline_ms - lag_ms)
        if intended >= self._from:
            self.outcome.sent += 1
            self.outcome.lags_ms.append(lag_ms)
        if not client.start(head + b"\r\n", self._body, intended):
            self._epoll.modify(client.socket, select.EPOLLIN | select.EPOLLOUT)

    def _count(self, client: Client, status: int) -> None:
        """An answer is complete."""
        client.answered = True
        self.outcome.answered += 1
        now = time.perf_counter()
        closed_loop = self.load.rate == 0
        if closed_loop and now < self._end:  # from answer to answer: a batch is counted whole or not at all
            if now < self._from:
                self._before = now
            elif self._before:
                self.outcome.seconds = now - self._before
        if self._from <= (now if closed_loop else client.intended) < self._end:
            self.outcome.statuses[status] += 1
            if status == 200:
                latency = (now - client.intended) * 1000
                self.outcome.latencies_ms.append(latency)
                self.outcome.in_time += not self.load.deadline_ms or latency <= self.load.deadline_ms
            elif status == 429:
                self.outcome.refusals_ms.append((now - client.sent) * 1000)

    def _use_again(self, client: Client) -> None:
        """A request is answered and wholly sent: the next one may go."""
        now = time.perf_counter()
        if self.load.rate == 0 and now < self._end:
            return self._send(client, now)
        while self._waiting:
            intended = self._waiting.popleft()
            if not self.load.deadline_ms or now < intended + self.load.deadline_ms / 1000:
                return self._send(client, intended)
            self.outcome.given_up += intended >= self._from
        return self._free.append(client)

    def _lose(self, number: int) -> None:
        """The server closed a connection: it is not used again."""
        client = self._clients.pop(number)
        if client in self._free:
            self._free.remove(client)
        client.socket.close()


def main() -> None:
    """Run the load that the first argument describes."""
    load = Load(**json.loads(sys.argv[1] if sys.argv[1] != "-" else sys.stdin.read()))
    if load.cores:
        os.sched_setaffinity(0, load.cores)
    outcome = Run(load).run()
    print(json.dumps({"load": {**asdict(load), "body": len(load.body)}, **outcome.summary()}))


if __name__ == "__main__":
    main()
