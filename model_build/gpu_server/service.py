"""The routes: /ping, /invocations, /metrics; one place where errors become statuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
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
from model_build.gpu_server.waiting import Priority, Request

JSON = b"application/json"
RETRY_AFTER_S = 5.0
RECHECK_S = 0.001
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


class Service:
    """Answers HTTP exchanges with what `engine` computes; `engine` is replaced when a release is swapped.

    `deadline_s` is for requests that state none. `state()` is what /ping says: (healthy, document).
    """

    def __init__(
        self,
        arena: Arena,
        metrics: Metrics,
        deadline_s: float,
        state: Callable[[], tuple[bool, dict[str, object]]],
    ) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self.open = 0
        self._arena = arena
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
        try:
            self._infer(exchange)
        except TurnoutError as error:
            self._fail(exchange, error)

    def on_bad(self, connection: Connection, status: int, text: str) -> None:
        """Answer what is no acceptable request."""
        self._metrics.invalid += 1
        connection.closing = status != 429
        extra = b"Retry-After: 1\r\n" if status == 429 else b""
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

    def _infer(self, exchange: Exchange) -> None:
        engine = self._engine_now()
        head = exchange.head
        start, length = exchange.body
        body = self._arena.memory[start : start + length]
        content_type = head.headers.get("content-type", "")
        size = wire.json_header_size(content_type, head.headers.get("inference-header-content-length"))
        if size is None:
            values = wire.decode_json(body, engine.spec)
            offsets = self._store(values, start)
            items, binary, request_id = values.items, values.binary_output, values.id
        else:
            layout = wire.decode_binary(body, size, engine.spec)
            offsets = tuple(start + offset for offset in layout.offsets)
            items, binary, request_id = layout.items, layout.binary_output, layout.id
        if head.headers.get("accept", "").startswith(wire.BINARY_TYPE):
            binary = True
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
                    engine.spec, request.output, items, binary, request_id, request.nonfinite
                )
                timing = (
                    f"Server-Timing: queue;dur={request.queue_ms:.3f}, model;dur={request.model_ms:.3f}\r\n"
                )
                exchange.respond(200, content, answer, timing.encode())

        request = Request(items, offsets, exchange.arrived, deadline, finished, priority)

        def gone() -> None:
            self._metrics.disconnected += 1
            engine.cancel(request)

        exchange.on_gone = gone
        engine.submit(request)

    def _store(self, values: wire.Values, start: int) -> tuple[int, ...]:
        """Lay a JSON request's values into its own slot, over the text they came from."""
        size = sum(array.nbytes for array in values.arrays)
        room = self._arena.slot_bytes - start % self._arena.slot_bytes
        if size > room:
            raise PayloadTooLarge("inputs", f"{size} bytes as binary", f"at most {room} bytes")
        offsets = []
        for array in values.arrays:
            self._arena.memory[start : start + array.nbytes] = array.reshape(-1).view(np.uint8).data
            offsets.append(start)
            start += array.nbytes
        return tuple(offsets)

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
