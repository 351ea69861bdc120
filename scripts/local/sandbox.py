"""One Lambda execution environment: a process running awslambdaric against a Runtime API of its own.

The Runtime API is the documented one (2018-06-01): `invocation/next` hands out the event, `response` and
`error` take the answer, `init/error` a failed start. The first `next` marks the end of the init phase.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from scripts.local.deployed import Function

INIT_TIMEOUT_S = 60.0
"""Lambda allows 10 s; a laptop with two cores may be starting several sandboxes at once."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The outcome of one call: `error` is None, or Lambda's X-Amz-Function-Error (`Unhandled`)."""

    payload: bytes
    error: str | None
    duration_ms: float
    init_ms: float | None = None


@dataclass(slots=True)
class _Call:
    request_id: str
    event: bytes
    deadline_ms: int
    arn: str
    done: asyncio.Future[tuple[bytes, str | None]]


class InitFailed(Exception):
    """Raised when the process ended or reported an error before it first asked for work."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        super().__init__(payload.decode(errors="replace"))


class Sandbox:
    """Starts in `start`, then serves one call at a time; `alive` turns false when the process has ended."""

    def __init__(
        self, function: Function, package: Path, runtime: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self.function = function
        self.init_ms = 0.0
        self.last_used_s = time.monotonic()
        self.started_s = time.monotonic()
        self._package, self._runtime, self._environment, self._log = package, runtime, environment, log
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: asyncio.Queue[_Call | None] = asyncio.Queue()
        self._current: _Call | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._api: web.Server
        self._tmp = ""
        self._server: asyncio.Server | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Runs the init phase to its end. Raises InitFailed with Lambda's error document."""
        loop = asyncio.get_running_loop()
        self._tmp = tempfile.mkdtemp(prefix="turnout-sandbox-")
        self._api = web.Server(self._serve, access_log=None)
        self._server = await loop.create_server(self._api, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.started_s = time.monotonic()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-m", "awslambdaric", self.function.handler,
                cwd=self._package, env=self.variables(port), stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self._watcher = loop.create_task(self._watch(self._process))
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), INIT_TIMEOUT_S)
        except TimeoutError:
            await self.stop()
            raise InitFailed(
                fault("Sandbox.Timedout", f"init took longer than {INIT_TIMEOUT_S:.0f} s")
            ) from None
        except InitFailed:
            await self.stop()
            raise

    def variables(self, port: int) -> dict[str, str]:
        """The environment: Lambda's reserved variables, the function's own, and the way to the local AWS."""
        function = self.function
        return {
            "PATH": os.defpath,
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "TMPDIR": self._tmp,
            "PYTHONPATH": f"{self._package}{os.pathsep}{self._runtime}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(self._package),
            "LAMBDA_RUNTIME_DIR": str(self._runtime),
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": uuid.uuid4().hex,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            **self._environment,
            **function.environment,
        }

    async def invoke(self, event: bytes, request_id: str) -> Invocation:
        """One call; a timeout or a crash ends the process, as on Lambda."""
        timeout_s = self.function.timeout_s
        call = _Call(
            request_id,
            event,
            int((time.time() + timeout_s) * 1000),
            self.function.arn,
            asyncio.get_running_loop().create_future(),
        )
        self._current = call
        started = time.perf_counter()
        self._waiting.put_nowait(call)
        try:
            payload, error = await asyncio.wait_for(call.done, timeout_s)
        except TimeoutError:
            text = f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds"
            payload, error = fault("Sandbox.Timedout", text), "Unhandled"
            await self.stop()
        finally:
            self._current = None
            self.last_used_s = time.monotonic()
        return Invocation(payload, error, (time.perf_counter() - started) * 1000)

    async def stop(self) -> None:
        """Ends the process, at the latest after two seconds, and closes the Runtime API."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 2.0)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._server is not None:
            self._server.close()
            self._waiting.put_nowait(None)  # who still asks for work gets an end, not a cancelled task
            await self._api.shutdown(timeout=0.1)
        if self._tmp:
            shutil.rmtree(self._tmp, ignore_errors=True)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        text = f"Runtime exited with error: exit status {status}"
        if not self._ready.done():
            self._ready.set_exception(InitFailed(fault("Runtime.ExitError", text)))
        if self._current is not None and not self._current.done.done():
            body = fault("Runtime.ExitError", f"RequestId: {self._current.request_id} Error: {text}")
            self._current.done.set_result((body, "Unhandled"))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        tail = request.path.rpartition("/2018-06-01/runtime/")[2].split("/")
        if tail == ["invocation", "next"]:
            return await self._next()
        if tail == ["init", "error"]:
            body = await request.read()
            if not self._ready.done():
                self._ready.set_exception(InitFailed(body))
            return web.Response(status=202)
        if tail[0] == "invocation" and tail[2:] in (["response"], ["error"]):
            return await self._finish(
                tail[1], await request.read(), "Unhandled" if tail[2] == "error" else None
            )
        return web.Response(status=404)

    async def _next(self) -> web.Response:
        if not self._ready.done():
            self.init_ms = (time.monotonic() - self.started_s) * 1000
            self._ready.set_result(None)
        call = await self._waiting.get()
        if call is None:
            return web.Response(status=410)
        headers = {
            "Lambda-Runtime-Aws-Request-Id": call.request_id,
            "Lambda-Runtime-Deadline-Ms": str(call.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": call.arn,
            "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000;Sampled=0",
            "Content-Type": "application/json",
        }
        return web.Response(body=call.event, headers=headers)

    async def _finish(self, request_id: str, body: bytes, error: str | None) -> web.Response:
        call = self._current
        if call is not None and call.request_id == request_id and not call.done.done():
            call.done.set_result((body, error))
        return web.Response(status=202)


def fault(kind: str, text: str) -> bytes:
    """Lambda's error document."""
    return json.dumps({"errorType": kind, "errorMessage": text}).encode()
