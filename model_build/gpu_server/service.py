"""The routes: /ping, /invocations, /metrics; one place where errors become statuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import orjson

from handlers.errors import (
    EndpointTimeout,
    InvalidInput,
    PayloadTooLarge,
    Refused,
    TurnoutError,
)
from model_build.gpu_server import wire
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.coming import Coming
from model_build.gpu_server.connection import Connection, Exchange
from model_build.gpu_server.engine import Engine
from model_build.gpu_server.head import Head, head_lines
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.spec import GraphSpec
from model_build.gpu_server.waiting import Priority, Request

JSON = b"application/json"
RETRY_AFTER_S = 5.0
RECHECK_S = 0.001
TIMING = b"Server-Timing: queue;dur=%.3f, model;dur=%.3f\r\n"
AT_ONCE_BYTES = 65_536  # a longer body comes in pieces, and as JSON takes longer to decode than to hand over


class Decoder(Protocol):
    """Where large JSON bodies are decoded."""

    def decode(self, at: int, length: int, room: int, spec: GraphSpec, done: wire.Done, /) -> None:
        """Lay the body at `at` out in place, and call `done` with its layout or the error."""


class Service:
    """Answers HTTP exchanges with what `engine` computes; `engine` is replaced when a release is swapped.

    `deadline_s` is for requests that state none. `state()` is what /ping says: (healthy, document).
    """

    def __init__(
        self,
        arena: Arena,
        decoder: Decoder,
        metrics: Metrics,
        deadline_s: float,
        state: Callable[[], tuple[bool, dict[str, object]]],
    ) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self.open = 0
        self._arena = arena
        self._decoder = decoder
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._state = state
        self._coming = Coming()

    def on_head(self, exchange: Exchange) -> None:
        """Answer what needs no body; refuse here what cannot be met, so that the caller loses no time."""
        head = exchange.head
        try:
            if head.path == "/invocations" and head.method == "POST":
                self._admit(exchange)
            elif (head.method, head.path) == ("GET", "/ping"):
                healthy, document = self._state()
                self._answer(exchange, 200 if healthy else 503, document)
            elif (head.method, head.path) == ("GET", "/metrics"):
                text = self._metrics.prometheus(self._gauges()).encode()
                exchange.connection.respond(200, b"text/plain; version=0.0.4", text)
            elif head.path == "/invocations":
                self._answer(exchange, 405, {"error": f"method: {head.method} is not allowed; allowed: POST"})
            else:
                paths = "GET /ping, POST /invocations, GET /metrics"
                self._answer(
                    exchange, 404, {"error": f"path: {head.path!r} is not allowed; allowed: {paths}"}
                )
        except TurnoutError as error:
            self._fail(exchange, error)

    def on_body(self, exchange: Exchange) -> None:
        """Decode, queue; the engine answers later."""
        start, length = exchange.body
        try:
            engine = self._engine_now()
            size = wire.json_header_size(exchange.head.content_type, exchange.head.header_length)
            if size is not None:
                body = self._arena.memory[start : start + length]
                self._queue(exchange, engine, wire.decode_binary(body, size, engine.spec))
            elif length > AT_ONCE_BYTES:
                self._decode_elsewhere(exchange, engine)
            else:
                slot = self._arena.memory[start : start + self._room(start)]
                self._queue(exchange, engine, wire.decode_json(slot, length, engine.spec))
        except TurnoutError as error:
            self._fail(exchange, error)

    def on_bad(self, connection: Connection, status: int, text: str) -> None:
        """Answer what is no acceptable request, or finds no place."""
        full = status in (429, 503)
        self._metrics.refused += full
        self._metrics.invalid += not full
        connection.closing = status != 429
        extra = b"Retry-After: 1\r\n" if full else b""
        connection.respond(status, JSON, json.dumps({"error": text}).encode(), extra)

    def _admit(self, exchange: Exchange) -> None:
        """Refuse, or note what the request was admitted as."""
        engine = self._engine_now()
        stated_s, priority = constraints(exchange.attributes)
        items, now = _expected_items(exchange.head, engine.spec), engine.now()
        deadline = exchange.arrived + (self._deadline_s if stated_s is None else stated_s)
        coming = self._coming.ahead_of(priority, now)
        late_s = engine.too_late(items, deadline, priority, now, coming)
        if late_s is not None:
            return self._refuse(exchange, late_s)
        exchange.items, exchange.deadline, exchange.priority = items, deadline, priority
        exchange.admitted_at = now
        if exchange.head.length > AT_ONCE_BYTES:
            self._coming.add(exchange)
        return None

    def _refuse(self, exchange: Exchange, wait_s: float) -> None:
        self._metrics.requests += 1
        self._metrics.refused += 1
        exchange.connection.answer(*refusal(round(wait_s * 10_000)))

    def _room(self, start: int) -> int:
        return self._arena.slot_bytes - start % self._arena.slot_bytes

    def _decode_elsewhere(self, exchange: Exchange, engine: Engine) -> None:
        start, length = exchange.body
        gone = False

        def leave() -> None:
            nonlocal gone
            gone = True
            self._coming.remove(exchange)
            self._metrics.disconnected += 1

        def decoded(result: wire.Layout | Exception) -> None:
            try:
                if gone:
                    exchange.connection.release()
                elif isinstance(result, Exception):
                    self._fail(exchange, result)
                else:
                    self._queue(exchange, engine, result)
            except TurnoutError as error:
                self._fail(exchange, error)
            engine.came()

        exchange.on_gone = leave
        engine.expect()
        self._decoder.decode(start, length, self._room(start), engine.spec, decoded)

    def _queue(self, exchange: Exchange, engine: Engine, layout: wire.Layout) -> None:
        items, start, now = layout.items, exchange.body[0], engine.now()
        self._coming.remove(exchange)
        if items > exchange.items or now - exchange.admitted_at > RECHECK_S:
            late_s = engine.too_late(items, exchange.deadline, exchange.priority, now)
            if late_s is not None:
                return self._refuse(exchange, late_s)

        def finished(request: Request) -> None:
            if request.cancelled:
                exchange.connection.release()
            elif request.error is not None:
                self._fail(exchange, request.error)
            else:
                self._metrics.requests += 1
                binary = layout.binary_output or exchange.head.accept.startswith(wire.BINARY_TYPE)
                content, answer = wire.encode(
                    engine.spec, request.output, items, binary, layout.id, request.nonfinite
                )
                timing = (request.queue_ms, request.model_ms)
                exchange.connection.answer(head_lines(200, content, len(answer)) + TIMING % timing, answer)

        def gone() -> None:
            self._metrics.disconnected += 1
            engine.cancel(request)

        offsets = tuple([start + offset for offset in layout.offsets])
        request = Request(
            items, offsets, exchange.arrived, exchange.deadline, finished, exchange.priority, now
        )
        exchange.on_gone = gone
        engine.submit(request)
        return None

    def _engine_now(self) -> Engine:
        if self.draining:
            raise Refused("the server is shutting down", RETRY_AFTER_S)
        if self.engine is None:
            raise Refused("no model is ready; see /ping", RETRY_AFTER_S)
        return self.engine

    def _gauges(self) -> dict[str, float]:
        healthy, _ = self._state()
        engine = self.engine
        return {
            "healthy": float(healthy),
            "slots_free": float(self._arena.free),
            "waiting_requests": float(len(engine.waiting)) if engine else 0.0,
            "waiting_items": float(engine.waiting.items) if engine else 0.0,
            "max_batch": float(engine.curve.max_batch) if engine else 0.0,
            "workers": float(len(engine.lanes)) if engine else 0.0,
        }

    def _answer(
        self, exchange: Exchange, status: int, document: dict[str, object], extra: bytes = b""
    ) -> None:
        exchange.connection.respond(status, JSON, orjson.dumps(document), extra)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        self._coming.remove(exchange)
        self._metrics.requests += 1
        status = status_of(error)
        document: dict[str, object] = {"error": str(error)}
        extra = b""
        if isinstance(error, Refused):
            extra = f"Retry-After: {max(1, math.ceil(error.retry_after_s))}\r\n".encode()
        self._metrics.invalid += status < 500
        self._answer(exchange, status, document, extra)


def status_of(error: Exception) -> int:
    """The HTTP status of an error: 4xx for the caller's, 429 for a refusal, 503 and 504 for ours."""
    statuses = (
        (PayloadTooLarge, 413),
        (InvalidInput, 400),
        (EndpointTimeout, 504),
        (Refused, 503),
    )
    return next((status for kind, status in statuses if isinstance(error, kind)), 500)


PRIORITIES = {
    "interactive": Priority.INTERACTIVE,
    "normal": Priority.INTERACTIVE,
    "background": Priority.SHADOW,
    "shadow": Priority.SHADOW,
}
"""What the API calls them, and the two queues that there are here."""


@lru_cache(maxsize=1024)
def constraints(attributes: bytes) -> tuple[float | None, Priority]:
    """(deadline in s or None, priority) from the custom attributes, `deadline_ms=12.5,priority=interactive`.

    Other attributes are ignored. Raises InvalidInput for a value that is not allowed.
    """
    deadline: float | None = None
    priority = Priority.INTERACTIVE
    for pair in attributes.decode("latin-1").split(","):
        name, _, value = pair.strip().partition("=")
        if name == "deadline_ms":
            try:
                deadline = float(value) / 1000
            except ValueError:
                deadline = math.nan
            if not 0 <= deadline < math.inf:
                raise InvalidInput("deadline_ms", value, "a number of milliseconds, 0 or more")
        elif name == "priority":
            if value not in PRIORITIES:
                raise InvalidInput("priority", value, " | ".join(PRIORITIES))
            priority = PRIORITIES[value]
    return deadline, priority


@lru_cache(maxsize=1024)
def refusal(wait: int) -> tuple[bytes, bytes]:
    """(head, body) of a refusal for a predicted wait of so many tenths of a millisecond."""
    ms = wait / 10
    text = f"the answer would take {ms} ms, and less is left of the deadline"
    body = orjson.dumps({"error": text, "predicted_wait_ms": ms})
    retry = b"Retry-After: %d\r\n" % max(1, math.ceil(ms / 1000))
    return head_lines(429, JSON, len(body)) + retry, body


@lru_cache(maxsize=1024)
def _expected_items(head: Head, spec: GraphSpec) -> int:
    """Items that a body is likely to hold; only a binary body's length tells."""
    binary = head.content_type.startswith(wire.BINARY_TYPE)
    return max(1, head.length // spec.item_bytes) if binary else 1
