"""A process that decodes large JSON bodies, so that the event loop never stands still for one.

The text lies in the arena already and its values are laid over it there: only places travel.
    front -> decoder   {"number", "at": first byte, "length", "room": bytes that may be used, "spec"}
    decoder -> front   {"number", "items", "offsets", "binary_output", "id"}  or  {"number", "error": {…}}
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from dataclasses import asdict
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

import orjson

from handlers.errors import InvalidInput, Overloaded, PayloadTooLarge, Refused
from model_build.gpu_server import arena, wire
from model_build.gpu_server.child import Child
from model_build.gpu_server.spec import GraphSpec, from_json, to_json

logger = logging.getLogger("turnout.gpu")
MODULE = "model_build.gpu_server.decoder"
RETRY_AFTER_S = 1.0
RESTART_PAUSE_S = 0.5
MAX_OPEN = 64  # bodies under way: the link holds their messages, so that a send never blocks
SHOWN = 120


class Decoder:
    """The front's side: hands bodies to the process, and starts it again when it dies."""

    def __init__(self, arena_fd: int) -> None:
        self._arena_fd = arena_fd
        self._child: Child | None = None
        self._open: dict[int, wire.Done] = {}
        self._number = 0
        self._stopping = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        return None if self._child is None else self._child.pid

    async def start(self) -> None:
        """Start the process; without it, `decode` answers that there is none."""
        self._child = await Child.start(MODULE, (), self._arena_fd, self._on_message, self._on_exit)

    def decode(self, at: int, length: int, room: int, spec: GraphSpec, done: wire.Done) -> None:
        """Call `done` with the layout of the body at `at`, or with the error that it is refused with."""
        if self._child is None:
            done(Refused("the decoder of large JSON bodies is being started", RETRY_AFTER_S))
            return
        if len(self._open) >= MAX_OPEN:
            done(Overloaded(f"{MAX_OPEN} large JSON bodies wait for the decoder", RETRY_AFTER_S))
            return
        self._number += 1
        self._open[self._number] = done
        message = {"number": self._number, "at": at, "length": length, "room": room, "spec": to_json(spec)}
        self._child.send(message)

    async def stop(self) -> None:
        """End the process."""
        self._stopping = True
        if self._child is not None:
            await self._child.stop()

    def _on_message(self, message: dict[str, Any]) -> None:
        self._open.pop(message["number"])(outcome(message))

    def _on_exit(self, status: int) -> None:
        self._child = None
        held, self._open = self._open, {}
        for done in held.values():
            done(Refused(f"the decoder of large JSON bodies ended with status {status}", RETRY_AFTER_S))
        if not self._stopping:
            logger.error("the decoder ended with status %d and is being restarted", status)
            self._starting = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        await asyncio.sleep(RESTART_PAUSE_S)
        await self.start()


def answer(message: dict[str, Any], memory: memoryview) -> dict[str, Any]:
    """Decode what a message asks for."""
    at, number = message["at"], message["number"]
    slot = memory[at : at + message["room"]]
    try:
        layout = wire.decode_json(slot, message["length"], _spec(message["spec"]))
    except InvalidInput as error:
        kind = type(error).__name__
        shown = repr(error.value)  # of a large body the value may be as large
        value = error.value if len(shown) <= SHOWN else shown[:SHOWN]
        refused = {"kind": kind, "field": error.field, "value": value, "allowed": error.allowed}
        return {"number": number, "error": refused}
    return {"number": number, **asdict(layout)}


def outcome(message: dict[str, Any]) -> wire.Layout | Exception:
    """The layout or the error that a message of the process stands for."""
    error = message.get("error")
    if error is None:
        offsets = tuple(message["offsets"])
        return wire.Layout(message["items"], offsets, message["binary_output"], message["id"])
    kind = PayloadTooLarge if error["kind"] == "PayloadTooLarge" else InvalidInput
    return kind(error["field"], error["value"], error["allowed"])


@lru_cache(maxsize=4)
def _spec(text: str) -> GraphSpec:
    return from_json(text)


def main(socket_fd: int, arena_fd: int) -> int:
    """Entry of the process: decodes until the front closes the link."""
    link = Connection(socket.socket(fileno=socket_fd).detach())
    memory = arena.open_shared(arena_fd)
    while True:
        try:
            message = orjson.loads(link.recv_bytes())
        except (EOFError, ConnectionResetError):
            return 0
        link.send_bytes(orjson.dumps(answer(message, memory), default=repr))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
