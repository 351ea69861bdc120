"""An open-loop load generator for one HTTP server: Poisson arrivals, latency from the intended send time.

A generator that waits for answers before it sends hides the queue that it makes (coordinated omission);
this one
sends on schedule, on a free connection or a new one. Rate 0 is a closed loop, which finds the capacity.
Run as a process: `python -m scripts.bench.gpu_load JSON`, which prints one JSON document.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `rate`: arrivals a second, 0 for a closed loop over `connections`.

    `deadline_ms`: sent with each request and judged on (0: none). `head`: request line and headers but
    Content-Length and the deadline. `warm_s` seconds at the start are not counted.
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


@dataclass(slots=True)
class Outcome:
    """Latencies in ms from the intended send time, and of refusals from the send itself, by status."""

    sent: int = 0
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    refusals_ms: list[float] = field(default_factory=list)
    in_time: int = 0
    unanswered: int = 0

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
        }


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile, None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Client(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._expected = -1
        self._status = 0
        self._intended = self._begun = 0.0

    def connection_made(self, transport: Any) -> None:
        """Connected."""
        self._transport = transport

    def send(self, intended: float) -> None:
        """Send one request that was due at `intended`."""
        self._intended, self._begun = intended, time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        self._received += data
        if self._expected < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            self._status = int(head[9:12])
            self._expected = end + 4 + int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self._received) >= self._expected:
            self._received.clear()
            self._expected = -1
            self._run.answered(self, self._status, self._intended, self._begun)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Closed by the server."""
        self._run.lost(self)


class Run:
    """One run of a load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        body = base64.b64decode(load.body)
        attributes = f"X-Amzn-SageMaker-Custom-Attributes: deadline_ms={load.deadline_ms}\r\n"
        head = load.head + (attributes if load.deadline_ms else "") + f"Content-Length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.outcome = Outcome()
        self._free: list[Client] = []
        self._waiting: list[float] = []
        self._open = 0
        self._start = self._end = 0.0
        self._closed_loop = load.rate == 0

    async def run(self) -> Outcome:
        """Connect, send for `seconds`, wait for what is under way."""
        loop = asyncio.get_running_loop()
        for _ in range(self.load.connections):
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", self.load.port)
            self._free.append(client)
        self._start = time.perf_counter()
        self._end = self._start + self.load.warm_s + self.load.seconds
        if self._closed_loop:
            clients, self._free = self._free, []
            for client in clients:
                self._send(client, time.perf_counter())
            await asyncio.sleep(self._end - self._start)
        else:
            await self._poisson(loop)
        grace = time.perf_counter() + 2.0 + self.load.deadline_ms / 1000
        while self._open and time.perf_counter() < grace and not self._closed_loop:
            await asyncio.sleep(0.01)
        self.outcome.unanswered = 0 if self._closed_loop else self._open + len(self._waiting)
        self.outcome.seconds = self.load.seconds
        return self.outcome

    async def _poisson(self, loop: asyncio.AbstractEventLoop) -> None:
        """Arrivals from a thread that sleeps to the microsecond: event loops wake to the millisecond."""
        done = asyncio.Event()
        draw = random.Random(self.load.seed)  # noqa: S311  # arrivals, not secrets

        def arrivals() -> None:
            at = self._start + draw.expovariate(self.load.rate)
            while at < self._end:
                time.sleep(max(0.0, at - time.perf_counter()))
                now = time.perf_counter()
                due: list[float] = []
                while at <= now:
                    due.append(at)
                    at += draw.expovariate(self.load.rate)
                loop.call_soon_threadsafe(self._fire, due)
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=arrivals, daemon=True).start()
        await done.wait()

    def _fire(self, due: Sequence[float]) -> None:
        for at in due:
            if self._free:
                self._send(self._free.pop(), at)
            else:
                self._waiting.append(at)

    def _send(self, client: Client, intended: float) -> None:
        self._open += 1
        if intended >= self._start + self.load.warm_s:
            self.outcome.sent += 1
        client.send(intended)

    def answered(self, client: Client, status: int, intended: float, begun: float) -> None:
        """An answer is complete: count it, use the connection again."""
        now = time.perf_counter()
        self._open -= 1
        counted = intended if not self._closed_loop else now
        if self._start + self.load.warm_s <= counted < self._end:
            self.outcome.statuses[status] += 1
            if status == 200:
                latency = (now - intended) * 1000
                self.outcome.latencies_ms.append(latency)
                self.outcome.in_time += not self.load.deadline_ms or latency <= self.load.deadline_ms
            else:
                self.outcome.refusals_ms.append((now - begun) * 1000)
        if self._closed_loop:
            if now < self._end:
                self._send(client, now)
        elif self._waiting:
            self._send(client, self._waiting.pop(0))
        else:
            self._free.append(client)

    def lost(self, client: Client) -> None:
        """The server closed a connection: it is not used again."""
        if client in self._free:
            self._free.remove(client)


def main() -> None:
    """Run the load that the first argument describes."""
    load = Load(**json.loads(sys.argv[1] if sys.argv[1] != "-" else sys.stdin.read()))
    outcome = uvloop.run(Run(load).run())
    print(json.dumps({"load": {**asdict(load), "body": len(load.body)}, **outcome.summary()}))


if __name__ == "__main__":
    main()
