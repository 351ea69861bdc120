"""A process of the server: started with the arena and one end of a socket, watched for messages and
for its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import orjson

Message = dict[str, Any]


class Child:
    """One child process; JSON messages both ways. `on_exit` is called once, with the exit status."""

    def __init__(
        self, process: asyncio.subprocess.Process, link: Connection, on_message: Callable[[Message], None]
    ) -> None:
        self._process = process
        self._link = link
        self._on_message = on_message
        self._there = select.poll()  # a Connection's own poll makes a selector each time
        self._there.register(link.fileno(), select.POLLIN)
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        module: str,
        arguments: tuple[str, ...],
        arena_fd: int,
        on_message: Callable[[Message], None],
        on_exit: Callable[[int], None],
    ) -> Child:
        """Start `python -m module *arguments SOCKET_FD ARENA_FD`."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                str(theirs.fileno()),
                str(arena_fd),
                pass_fds=(theirs.fileno(), arena_fd),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches the front alone, which then drains
            )
        finally:
            theirs.close()
        child = cls(process, Connection(ours.detach()), on_message)
        loop = asyncio.get_running_loop()
        loop.add_reader(child._link.fileno(), child.collect)
        child._watch = loop.create_task(child._wait(on_exit))
        return child

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send one message; lost without an error when the child has just died (`on_exit` follows)."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._link.send_bytes(orjson.dumps(message))

    def kill(self) -> None:
        """End the process now."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Close the link, which asks the child to end, and wait; after `grace_s` it is killed."""
        self._close()
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def collect(self) -> None:
        """Hand on every message that is there."""
        try:
            while not self._link.closed and self._there.poll(0):
                self._on_message(orjson.loads(self._link.recv_bytes()))
        except (EOFError, ConnectionResetError):
            self._close()

    def _close(self) -> None:
        if not self._link.closed:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._link.close()

    async def _wait(self, on_exit: Callable[[int], None]) -> None:
        status = await self._process.wait()
        self._close()
        on_exit(status)
