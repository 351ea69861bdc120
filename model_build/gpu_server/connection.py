"""One HTTP/1.1 connection: the body is received straight into a slot of the arena, the answer leaves at once.

The slot is taken when the first byte of a request arrives, so head and body lie in it as they came; it goes
back when the answer is written. Without a free slot, or when the application refuses at the head, the body is
read into scratch memory and forgotten.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from model_build.gpu_server.arena import Arena
from model_build.gpu_server.head import Head, head_lines, read_head
from model_build.gpu_server.pace import Pace
from model_build.gpu_server.waiting import Priority

HEAD_LIMIT = 16_384
READ_SIZE = 65_536
FORGOTTEN = memoryview(bytearray(READ_SIZE))
"""Where every connection reads what it does not keep: each looks at it, if at all, before another reads."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest body in bytes, and how many clients may be connected at a time."""

    body_bytes: int
    connections: int


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and the way to answer it. `body` is a place in the arena: (first byte, bytes).

    Admitted at its head as `items` (assumed), `deadline` and `admitted_at` in seconds, `priority`, `coming`.
    """

    head: Head
    attributes: bytes
    arrived: float
    connection: Connection
    body: tuple[int, int] = (0, 0)
    on_gone: Callable[[], None] | None = None
    items: int = 0
    deadline: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    admitted_at: float = 0.0
    coming: bool = False


class Application(Protocol):
    """What connections talk to."""

    def on_head(self, exchange: Exchange) -> None:
        """The head is there: may answer at once (a refusal, a GET), and then never sees the body."""

    def on_body(self, exchange: Exchange) -> None:
        """The body is there: answers now or later."""

    def on_bad(self, connection: Connection, status: int, text: str) -> None:
        """Not an acceptable HTTP request; the connection closes after the answer."""


class Connection(asyncio.BufferedProtocol):
    """The protocol of one client; one request at a time."""

    def __init__(
        self, application: Application, arena: Arena, pace: Pace, registry: set[Connection], limits: Limits
    ) -> None:
        self._application = application
        self._arena = arena
        self._pace = pace
        self._registry = registry
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._scratch: bytearray | None = None
        self._slot: int | None = None
        self._held = False  # the slot belongs to a batch under way, and is freed by `release`
        self._filled = 0
        self._exchange: Exchange | None = None
        self._head_size = 0
        self._discard = 0
        self._answered = False
        self._pipelined = b""
        self.last_byte = self._loop.time()
        self.closing = False

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; one too many is told so and closed."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour, not by class
        socket = transport.get_extra_info("socket")
        self._descriptor = -1 if socket is None else socket.fileno()
        if len(self._registry) >= self._limits.connections:
            text = f"{self._limits.connections} connections are open, which is the limit"
            self._application.on_bad(self, 503, text)
            return
        self._registry.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client is gone: its place is freed."""
        self._registry.discard(self)
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not self._answered and exchange.on_gone is not None:
            exchange.on_gone()
        elif not self._held:
            self._free_slot()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self._exchange is not None and (self._discard or self._is_complete()):
            return FORGOTTEN
        if self._slot is None:
            self._slot = None if self._scratch else self._arena.acquire()  # a head is not cut in two
            if self._slot is None:
                return memoryview(self._scratch_buffer())[self._filled :]
        start = self._slot + self._filled
        if self._exchange is None:
            return self._arena.memory[start : self._slot + READ_SIZE]
        return self._arena.memory[start : self._slot + self._head_size + self._exchange.head.length]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        self.last_byte = self._loop.time()
        if self._discard:
            surplus = nbytes - min(nbytes, self._discard)
            self._discard -= nbytes - surplus
            if surplus:
                self._keep_pipelined(FORGOTTEN[nbytes - surplus : nbytes])
            self._next_if_done()
        elif self._exchange is None:
            self._filled += nbytes
            self._read_head()
        elif self._is_complete():
            self._keep_pipelined(FORGOTTEN[:nbytes])
        else:
            self._filled += nbytes
            if self._is_complete():
                self._deliver(self._exchange)

    # -- the application's side

    @property
    def idle(self) -> bool:
        """Whether no request is being read or answered."""
        return self._exchange is None and self._filled == 0

    @property
    def receiving(self) -> bool:
        """Whether a request is only partly there."""
        return not self.idle and (self._exchange is None or not self._is_complete() or self._discard > 0)

    def close(self) -> None:
        """Close once what was written is sent."""
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def release(self) -> None:
        """The batch that read this request's slot is back and nobody reads it any more (the client
        had gone).
        """
        self._held = False
        self._free_slot()

    def respond(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """Answer the request at hand; `extra` is further header lines, each with its line end."""
        self.answer(head_lines(status, content_type, len(body)) + extra, body)

    def answer(self, lines: bytes, body: bytes) -> None:
        """Answer the request at hand with a head that is ready but for the empty line."""
        if self._transport is None or self._answered:
            return
        self._answered, self._held = True, False
        exchange = self._exchange
        keep = exchange is not None and exchange.head.keep_alive and not self.closing
        self._write(b"%b%b%b" % (lines, b"\r\n" if keep else b"Connection: close\r\n\r\n", body))
        if not keep:
            self.close()
        elif exchange is not None and not self._is_complete():
            self._discard = self._head_size + exchange.head.length - self._filled
            self._free_slot()
        else:
            self._next_if_done()

    # -- inside

    def _write(self, data: bytes) -> None:
        """Straight to the socket where nothing waits before it: the event loop itself writes only at the end
        of its round, after all that there is to read.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._descriptor >= 0 and not transport.get_write_buffer_size():
            try:
                sent = os.write(self._descriptor, data)
            except OSError:  # full, or broken: the transport finds out
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def _is_complete(self) -> bool:
        if self._exchange is None:
            return False
        return self._filled >= self._head_size + self._exchange.head.length

    def _scratch_buffer(self) -> bytearray:
        if self._scratch is None:
            self._scratch = bytearray(HEAD_LIMIT)
        return self._scratch

    def _read_head(self) -> None:
        if self._slot is None:
            received = memoryview(self._scratch_buffer())[: self._filled]
        else:
            received = self._arena.memory[self._slot : self._slot + self._filled]
        start = bytes(received[:HEAD_LIMIT])
        end = start.find(b"\r\n\r\n") + 4
        if end < 4:
            if self._filled >= HEAD_LIMIT:
                self._application.on_bad(self, 431, f"the request's head is over {HEAD_LIMIT} bytes")
            return None
        try:
            head, attributes = read_head(start[:end])
        except httptools.HttpParserError as error:
            return self._application.on_bad(self, 400, f"not an HTTP/1.1 request: {error}")
        except ValueError as error:
            return self._application.on_bad(self, 411, str(error))
        most = self._limits.body_bytes
        if head.length > most:
            text = f"Content-Length: {head.length} is not allowed; allowed: at most {most} bytes"
            return self._application.on_bad(self, 413, text)
        exchange = Exchange(head, attributes, self._pace.arrival(), self)
        self._exchange, self._head_size, self._answered = exchange, end, False
        surplus = self._filled - end - head.length
        if surplus > 0:
            self._keep_pipelined(received[end + head.length :])
            self._filled -= surplus
        if head.expects_continue:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._application.on_head(exchange)
        if self._exchange is not exchange:
            return None  # answered, and on to the next
        if not self._answered and self._slot is None:
            self._application.on_bad(self, 429, "every place in the queue is taken")
        elif not self._answered and self._is_complete():
            self._deliver(exchange)
        return None

    def _deliver(self, exchange: Exchange) -> None:
        slot = 0 if self._slot is None else self._slot
        exchange.body = (slot + self._head_size, exchange.head.length)
        self._held = True
        self._application.on_body(exchange)

    def _keep_pipelined(self, data: memoryview) -> None:
        """Keep the start of the next request, and read no further until its turn comes."""
        self._pipelined += bytes(data)
        if self._transport is not None:
            self._transport.pause_reading()

    def _free_slot(self) -> None:
        if self._slot is not None:
            self._arena.release(self._slot)
            self._slot = None

    def _next_if_done(self) -> None:
        if not self._answered or self._discard or self._exchange is None:
            return
        self._free_slot()
        self._exchange, self._filled, self._head_size, self._answered = None, 0, 0, False
        self._scratch = None
        if self._pipelined:
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        data, self._pipelined = self._pipelined, b""
        while data and self._transport is not None and not self.closing:
            buffer = self.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.buffer_updated(size)
            if self._exchange is None and self._pipelined:  # answered at once, and on to the next
                data, self._pipelined = self._pipelined + data, b""
        if not self._pipelined and self._transport is not None and not self.closing:
            self._transport.resume_reading()
