"""`python -m model_build.gpu_server`: serve the release in TURNOUT_GPU_MODEL_DIR until SIGTERM.

SIGTERM and SIGINT drain and exit 0; SIGHUP swaps in the release that is in the folder now.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import time

import uvloop

from handlers.errors import LocalCloudError, TurnoutError
from model_build.gpu_server.connection import Connection, Limits
from model_build.gpu_server.house import House, find_devices
from model_build.gpu_server.metrics import Emf
from model_build.gpu_server.settings import Settings, from_environment

logger = logging.getLogger("turnout.gpu")


def count_gpus() -> int:
    """How many GPUs PyTorch sees; asked in a process of its own, since the front never loads PyTorch."""
    code = "import torch; print(torch.cuda.device_count())"
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)  # noqa: S603  # ours


async def serve(settings: Settings) -> None:
    """Run until a signal ends it. /ping answers from the first moment, with the reason while it is
    not ready.
    """
    loop = asyncio.get_running_loop()
    devices = find_devices(settings.device, count_gpus)
    house = House(settings, devices)
    connections: set[Connection] = set()

    def connect() -> Connection:
        limits = Limits(settings.max_body_bytes, settings.max_connections)
        return Connection(house.service, house.arena, house.pace, connections, limits)

    try:
        server = await loop.create_server(
            connect, settings.host, settings.port, backlog=1024, reuse_address=True
        )
    except OSError as error:
        raise LocalCloudError(f"port {settings.port}: {error.strerror or error}") from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks: set[asyncio.Task[object]] = set()

    def spawn(coroutine: object) -> None:
        task: asyncio.Task[object] = loop.create_task(coroutine)  # type: ignore[arg-type]
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, lambda: spawn(house.swap()))
    await house.decoder.start()
    gc.collect()
    gc.freeze()  # what is there stays: a full collection costs milliseconds, in the middle of a request
    spawn(house.swap())
    spawn(_sweep(connections, house, settings))
    if settings.emf_s:
        spawn(_report(house, settings.emf_s))
    logger.info("listening on %s:%d for %s", settings.host, settings.port, ", ".join(devices))
    await stop.wait()
    logger.info("draining")
    await house.drain()
    server.close()
    for connection in list(connections):
        connection.close()
    for task in tasks:
        task.cancel()
    for _ in range(100):  # what was answered last may still be on its way out
        if not connections:
            break
        await asyncio.sleep(0.01)


async def _sweep(connections: set[Connection], house: House, settings: Settings) -> None:
    """Close connections that send a request too slowly."""
    while True:
        await asyncio.sleep(min(1.0, settings.body_timeout_s / 2))
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            if connection.receiving and now - connection.last_byte > settings.body_timeout_s:
                house.service.on_bad(
                    connection, 408, f"no byte of the request for {settings.body_timeout_s:g} s"
                )


async def _report(house: House, every_s: float) -> None:
    emf: Emf | None = None
    while True:
        await asyncio.sleep(every_s)
        engine = house.service.engine
        if engine is None:
            continue
        emf = emf or Emf(engine.spec.model)
        line = emf.line(house.metrics, int(time.time() * 1000))
        if line:
            print(line, flush=True)


def main() -> int:
    """Exit code 0 after a drain, 2 for a setting that is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(serve(from_environment(os.environ)))
    except TurnoutError as error:
        print(f"turnout: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
