"""The floor that a server of this machine stands on: reads each request whole, answers a constant, no model.

Its event loop is the one of turnout's front. What its latency is at a share of its own capacity is what the
machine and the load generator add to every server's.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import cast

import uvloop

BODY = b"x" * 150
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LENGTH = b"content-length:"


class Constant(asyncio.BufferedProtocol):
    """One connection; a request must fit its buffer."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(1 << 16))
        self._filled = self._wanted = 0
        self._descriptor = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._descriptor = cast(int, transport.get_extra_info("socket").fileno())

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived: answer once the request is whole."""
        self._filled += nbytes
        if not self._wanted:
            start = bytes(self._buffer[: self._filled])
            head, _, _ = start.partition(b"\r\n\r\n")
            at = head.lower().find(LENGTH)
            body = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._wanted = len(head) + 4 + body
        if self._filled >= self._wanted:
            self._filled = self._wanted = 0
            os.write(self._descriptor, ANSWER)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
