"""One instance of a GPU endpoint: a `python -m model_build.gpu_server` process on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from scripts.local.deployed import Variant

DRAIN_S = 10.0


class GpuProcess:
    """Starts in `start`; `ready` once `/ping` has answered 200, as SageMaker waits for it."""

    def __init__(
        self, variant: Variant, model_folder: Path, root: Path, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.variant = variant
        self.log = log
        self.ready = False
        self.outstanding = 0
        self.started_s = time.monotonic()
        self.startup_s: float | None = None
        self._model_folder, self._root, self._environment = model_folder, root, environment
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        environment = {
            **self._environment,
            **self.variant.environment,
            "TURNOUT_GPU_PORT": str(self._port),
            "TURNOUT_GPU_MODEL_DIR": str(self._model_folder),
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "model_build.gpu_server", cwd=self._root, env=environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def probe(self, client: aiohttp.ClientSession) -> None:
        """Asks `/ping` once."""
        try:
            async with client.get(f"{self.url}/ping", timeout=aiohttp.ClientTimeout(total=2.0)) as answer:
                self.ready = answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            self.ready = False
        if self.ready and self.startup_s is None:
            self.startup_s = time.monotonic() - self.started_s

    async def drain(self) -> None:
        """Takes no more work, lets what is in flight finish, then stops."""
        self.ready = False
        limit = time.monotonic() + DRAIN_S
        while self.outstanding and time.monotonic() < limit:
            await asyncio.sleep(0.05)
        await self.stop()

    async def stop(self) -> None:
        """Ends the process, at the latest after five seconds."""
        self.ready = False
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 5.0)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
