"""The routes: /ping, /invocations, /metrics; one place where errors become statuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Protocol

import orjson

from handlers.errors import (
    EndpointTimeout,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
    Refused,
    TurnoutError,
)
from model_build.gpu_server import wire
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.connection import Connection, Exchange, Head
from model_build.gpu_server.engine import Engine
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.spec import GraphSpec
from model_build.gpu_server.waiting import Priority, Request

JSON = b"application/json"
RETRY_AFTER_S = 5.0
RECHECK_S = 0.001
INLINE_JSON_BYTES = 65_536  # a longer text takes longer to decode than to hand over
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


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

    def on_head(self, exchange: Exchange) -> None:
        """Answer what needs no body; refuse here what cannot be met, so that the caller loses no time."""
        head = exchange.head
        try:
            if (head.method, head.path) == ("GET", "/ping"):
                healthy, document = self._state()
                self._answer(exchange, 200 if healthy else 503, document)
            elif (head.method, head.path) == ("GET", "/metrics"):
                text = self._metrics.prometheus(self._gauges()).encode()
                exchange.respond(200, b"text/plain; version=0.0.4", text)
            elif head.path != "/invocations":
                paths = "GET /ping, POST /invocations, GET /metrics"
                self._answer(
                    exchange, 404, {"error": f"path: {head.path!r} is not allowed; allowed: {paths}"}
                )
            elif head.method != "POST":
                self._answer(exchange, 405, {"error": f"method: {head.method} is not allowed; allowed: POST"})
            else:
                self._early_refusal(exchange)
        except TurnoutError as error:
            self._fail(exchange, error)

    def on_body(self, exchange: Exchange) -> None:
        """Decode, queue; the engine answers later."""
        start, length = exchange.body
        headers = exchange.head.headers
        try:
            engine = self._engine_now()
            size = wire.json_header_size(
                headers.get("content-type", ""), headers.get("inference-header-content-length")
            )
            if size is not None:
                body = self._arena.memory[start : start + length]
                self._queue(exchange, engine, wire.decode_binary(body, size, engine.spec))
            elif length > INLINE_JSON_BYTES:
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

    def _early_refusal(self, exchange: Exchange) -> None:
        engine = self._engine_now()
        deadline, priority = self._constraints(exchange)
        binary = exchange.head.headers.get("content-type", "").startswith(wire.BINARY_TYPE)
        items = max(1, exchange.head.length // engine.spec.item_bytes) if binary else 1
        now = engine.now()
        engine.admit(items, deadline, priority, now)
        exchange.admitted = (items, deadline, priority)
        exchange.admitted_at = now

    def _room(self, start: int) -> int:
        return self._arena.slot_bytes - start % self._arena.slot_bytes

    def _decode_elsewhere(self, exchange: Exchange, engine: Engine) -> None:
        start, length = exchange.body
        gone = False

        def leave() -> None:
            nonlocal gone
            gone = True
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
        items, start = layout.items, exchange.body[0]
        binary = layout.binary_output or exchange.head.headers.get("accept", "").startswith(wire.BINARY_TYPE)
        assumed, deadline, level = exchange.admitted or (0, 0.0, 0)
        priority, now = Priority(level), engine.now()
        if items > assumed or now - exchange.admitted_at > RECHECK_S:
            engine.admit(items, deadline, priority, now)

        def finished(request: Request) -> None:
            if request.cancelled:
                exchange.connection.release()
            elif request.error is not None:
                self._fail(exchange, request.error)
            else:
                self._metrics.requests += 1
                content, answer = wire.encode(
                    engine.spec, request.output, items, binary, layout.id, request.nonfinite
                )
                timing = (
                    f"Server-Timing: queue;dur={request.queue_ms:.3f}, model;dur={request.model_ms:.3f}\r\n"
                )
                exchange.respond(200, content, answer, timing.encode())

        offsets = tuple(start + offset for offset in layout.offsets)
        request = Request(items, offsets, exchange.arrived, deadline, finished, priority)

        def gone() -> None:
            self._metrics.disconnected += 1
            engine.cancel(request)

        exchange.on_gone = gone
        engine.submit(request)

    def _engine_now(self) -> Engine:
        if self.draining:
            raise Refused("the server is shutting down", RETRY_AFTER_S)
        if self.engine is None:
            raise Refused("no model is ready; see /ping", RETRY_AFTER_S)
        return self.engine

    def _constraints(self, exchange: Exchange) -> tuple[float, Priority]:
        stated, priority = constraints(exchange.head)
        return exchange.arrived + (self._deadline_s if stated is None else stated / 1000), priority

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
        exchange.respond(status, JSON, orjson.dumps(document), extra)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        self._metrics.requests += 1
        status = status_of(error)
        document: dict[str, object] = {"error": str(error)}
        extra = b""
        if isinstance(error, Refused):
            extra = f"Retry-After: {max(1, math.ceil(error.retry_after_s))}\r\n".encode()
        if isinstance(error, Overloaded):
            document["predicted_wait_ms"] = round(error.retry_after_s * 1000, 3)
        elif status < 500:
            self._metrics.invalid += 1
        self._answer(exchange, status, document, extra)


def status_of(error: Exception) -> int:
    """The HTTP status of an error: 4xx for the caller's, 429 for a refusal, 503 and 504 for ours."""
    statuses = (
        (PayloadTooLarge, 413),
        (InvalidInput, 400),
        (Overloaded, 429),
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


def constraints(head: Head) -> tuple[float | None, Priority]:
    """(deadline in ms or None, priority) from the custom attributes, `deadline_ms=12.5,priority=interactive`.

    Other attributes are ignored. Raises InvalidInput for a value that is not allowed.
    """
    deadline: float | None = None
    priority = Priority.INTERACTIVE
    for pair in head.headers.get(ATTRIBUTES, "").split(","):
        name, _, value = pair.strip().partition("=")
        if name == "deadline_ms":
            try:
                deadline = float(value)
            except ValueError:
                deadline = math.nan
            if not 0 <= deadline < math.inf:
                raise InvalidInput("deadline_ms", value, "a number of milliseconds, 0 or more")
        elif name == "priority":
            if value not in PRIORITIES:
                raise InvalidInput("priority", value, " | ".join(PRIORITIES))
            priority = PRIORITIES[value]
    return deadline, priority
