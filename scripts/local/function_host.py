"""Hosts functions as Lambda does: a pool of sandboxes a version, grown by load, shrunk by idleness.

A call takes an idle sandbox, the most recently used first. When none is idle one more starts, and the call
goes to whichever sandbox comes free first, new or old. Above `max_sandboxes` calls wait: Lambda would go
on, a laptop cannot. Above the function's concurrency (reserved, or the account's) they are refused, as there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from handlers.errors import LocalCloudError
from scripts.local import package_store
from scripts.local.deployed import Deployed, Function
from scripts.local.sandbox import InitFailed, Invocation, Sandbox, fault

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 300.0


class UnknownFunction(Exception):
    """Raised when nothing is deployed under the name and qualifier."""


class Throttled(Exception):
    """Raised when a function has as many calls at once as it may: Lambda's 429."""


class Pool:
    """The sandboxes of one version of a function."""

    def __init__(
        self, function: Function, make: Callable[[], Awaitable[Sandbox]], max_sandboxes: int
    ) -> None:
        self.function = function
        self.max_sandboxes = max_sandboxes
        self.idle: list[Sandbox] = []
        self.size = self.in_flight = 0
        self.cold_starts_ms: deque[float] = deque(maxlen=1000)
        self._make = make
        self._waiters: deque[asyncio.Future[Sandbox]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sandboxes: set[Sandbox] = set()
        self._closed = False

    async def invoke(self, event: bytes, request_id: str) -> Invocation:
        """One call; the error document of a failed init is the answer of the call that needed the sandbox.

        Raises Throttled.
        """
        if self.in_flight >= self.function.concurrency:
            raise Throttled(f"{self.function.name} has {self.in_flight} calls at once")
        self.in_flight += 1
        try:
            return await self._invoke(event, request_id)
        finally:
            self.in_flight -= 1

    async def _invoke(self, event: bytes, request_id: str) -> Invocation:
        sandbox = self._take_idle()
        cold = sandbox is None
        if sandbox is None:
            try:
                sandbox = await self._wait()
            except InitFailed as failure:
                return Invocation(failure.payload, "Unhandled", 0.0)
            except (OSError, LocalCloudError) as failure:
                log.exception("no sandbox for %s", self.function.name)
                return Invocation(fault("Runtime.Unknown", str(failure)), "Unhandled", 0.0)
        first_use = sandbox.last_used_s <= sandbox.started_s
        try:
            outcome = await sandbox.invoke(event, request_id)
        finally:
            self._release(sandbox)
        return replace(outcome, init_ms=sandbox.init_ms) if cold and first_use else outcome

    @property
    def pids(self) -> list[int]:
        return sorted(sandbox.pid for sandbox in self._sandboxes if sandbox.alive)

    def _take_idle(self) -> Sandbox | None:
        while self.idle:
            sandbox = self.idle.pop()
            if sandbox.alive:
                return sandbox
            self._forget(sandbox)
        return None

    async def _wait(self) -> Sandbox:
        waiter: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self.size < self.max_sandboxes:
            self.size += 1
            task = asyncio.create_task(self._grow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await waiter

    async def _grow(self) -> None:
        sandbox: Sandbox | None = None
        try:
            sandbox = await self._make()
            self._sandboxes.add(sandbox)
            await sandbox.start()
        except (InitFailed, OSError, LocalCloudError) as failure:
            if sandbox is None:
                self.size -= 1
            else:
                self._forget(sandbox)
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.set_exception(failure)
            return
        self.cold_starts_ms.append(sandbox.init_ms)
        self._release(sandbox)

    def _release(self, sandbox: Sandbox) -> None:
        if not sandbox.alive or self._closed:
            self._forget(sandbox)
            return
        waiter = self._next_waiter()
        if waiter is None:
            self.idle.append(sandbox)
        else:
            waiter.set_result(sandbox)

    def _next_waiter(self) -> asyncio.Future[Sandbox] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _forget(self, sandbox: Sandbox) -> None:
        if sandbox in self._sandboxes:
            self._sandboxes.discard(sandbox)
            self.size -= 1
        task = asyncio.create_task(sandbox.stop())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def reap(self, now_s: float) -> None:
        """Stops sandboxes that nobody has used for KEEP_ALIVE_S."""
        for sandbox in [s for s in self.idle if now_s - s.last_used_s > KEEP_ALIVE_S]:
            self.idle.remove(sandbox)
            self._forget(sandbox)

    async def close(self) -> None:
        """Ends every sandbox, busy ones after their call."""
        self._closed = True
        for sandbox in self.idle:
            self._forget(sandbox)
        self.idle.clear()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def kill(self) -> None:
        """Ends every sandbox at once."""
        self._closed = True
        stopping = [sandbox.stop() for sandbox in self._sandboxes]
        await asyncio.gather(*stopping, *self._tasks, return_exceptions=True)


class FunctionHost:
    """All deployed functions; `deployed` is replaced whenever AWS has something new."""

    def __init__(
        self, runtime: Path, packages: Path, logs: Path, environment: Mapping[str, str], max_sandboxes: int
    ) -> None:
        self.deployed = Deployed({}, {}, (), (), ())
        self._runtime, self._packages, self._logs, self._environment = runtime, packages, logs, environment
        self._max_sandboxes = max_sandboxes
        self._pools: dict[tuple[object, ...], Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def update(self, deployed: Deployed) -> None:
        """Takes a new state of AWS; pools of versions that are gone finish their calls and end."""
        self.deployed = deployed
        keys = {function.key for function in deployed.functions.values()}
        for key in [key for key in self._pools if key not in keys]:
            task = asyncio.create_task(self._pools.pop(key).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        for pool in self._pools.values():
            pool.reap(time.monotonic())

    async def invoke(self, name: str, qualifier: str, event: bytes) -> tuple[Function, Invocation]:
        """One synchronous call. Raises UnknownFunction, Throttled."""
        function = self.deployed.resolve(name, qualifier, random.random())  # noqa: S311  # a traffic split
        if function is None:
            raise UnknownFunction(f"{name}:{qualifier}")
        return function, await self.pool(function).invoke(event, str(uuid.uuid4()))

    def pool(self, function: Function) -> Pool:
        if function.key not in self._pools:
            self._pools[function.key] = Pool(function, lambda: self._sandbox(function), self._max_sandboxes)
        return self._pools[function.key]

    async def _sandbox(self, function: Function) -> Sandbox:
        package = await asyncio.to_thread(
            package_store.fetch, function.code_url, function.code_sha256, self._packages
        )
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{function.name}.log"
        return Sandbox(function, package, self._runtime, self._environment, log)

    def status(self) -> list[dict[str, object]]:
        """For `turnout status`: sandboxes and cold starts a version."""
        return [
            {
                "function": pool.function.name,
                "version": pool.function.version,
                "sandboxes": pool.size,
                "idle": len(pool.idle),
                "pids": pool.pids,
                "cold_starts_ms": [round(ms, 1) for ms in pool.cold_starts_ms],
            }
            for pool in self._pools.values()
        ]

    async def close(self) -> None:
        """Ends everything."""
        await asyncio.gather(*(pool.kill() for pool in self._pools.values()))
