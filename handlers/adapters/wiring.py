"""A sandbox's parts put together: ports, paths, telemetry and upkeep around one model's service.

Importing this brings numpy, ONNX Runtime and Powertools, most of a cold start: `bootstrap` asks the network
for the release first.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, NamedTuple

from handlers.adapters.telemetry import Telemetry
from handlers.adapters.tracing import Tracing
from handlers.adapters.upkeep import AwsClients, Upkeep
from handlers.errors import EndpointUnprepared
from handlers.routing.profile import MB_PER_VCPU
from handlers.serving.dispatch import Dispatch
from handlers.serving.ledger import Ledger, NoCounter
from handlers.serving.paths import InProcessCpu
from handlers.serving.service import Ports, Service
from handlers.serving.shadow import EVENT_KEY
from handlers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from aws_lambda_powertools import Logger
    from numpy.typing import NDArray

    from handlers.serving.holder import ReleaseHolder
    from handlers.serving.paths import CpuPath, GpuPath
    from handlers.serving.release import Served


HOLD_S = 0.1
"""How long before its deadline an answer gives up waiting for the endpoint's client. Making it takes 170 to
400 ms and holds the interpreter for 26 ms at a time on a whole vCPU, 50 on a busy one (measured)."""


class EventualGpu:
    """The endpoint's client, made in the background after the first answer, or when first asked for.

    Importing boto3 takes longer than a whole cold start without it, so neither init nor an answer waits for
    it unless that answer needs the GPU; and then for a third of its time, and up to `hold_s` before its
    deadline. It does wait: a sandbox is frozen between requests, so only while one is there can the client be
    made, and after a few of them it is.
    """

    def __init__(self, pool: Executor, make: Callable[[], GpuPath], hold_s: float = HOLD_S) -> None:
        self._pool = pool
        self._make = make
        self._hold_s = hold_s
        self._client: Future[GpuPath] | None = None

    def warm(self) -> Future[GpuPath]:
        """Begin making the client, once."""
        if self._client is None:
            self._client = self._pool.submit(self._make)
        return self._client

    def infer(self, arrays: Sequence[NDArray[Any]], timeout_s: float, priority: str) -> NDArray[np.float32]:
        """As `GpuPath.infer`; waits for the client within the same timeout.

        Raises EndpointUnprepared when that is too short, soon enough for another answer to go out.
        """
        if self._client is not None and self._client.done():
            return self._client.result().infer(arrays, timeout_s, priority)
        if timeout_s <= self._hold_s:
            raise EndpointUnprepared("this sandbox's client for the endpoint is not ready yet")
        began = time.monotonic()
        try:
            client = self.warm().result(min(timeout_s - self._hold_s, timeout_s / 3.0))
        except TimeoutError as error:
            raise EndpointUnprepared("the endpoint's client was not ready before the deadline") from error
        return client.infer(arrays, timeout_s - (time.monotonic() - began), priority)


class Running(NamedTuple):
    """An initialised function."""

    dispatch: Dispatch
    service: Service
    upkeep: Upkeep
    tracing: Tracing
    clients: AwsClients
    logger: Logger

    def answer(self, event: dict[str, Any], request_id: str) -> dict[str, Any]:
        """One event → one result; a shadow's event has none."""
        if EVENT_KEY in event:
            self.dispatch.shadow(event[EVENT_KEY])
            return {}
        if not self.tracing.sampled:
            return self.dispatch.answer(event, request_id)
        with self.tracing.subsegment("## turnout"):
            return self.dispatch.answer(event, request_id)

    def refresh(self) -> None:
        """Follow the pointer again; a release that cannot be opened leaves the present one in place."""
        self.service.holder.load()

    def prepare(self) -> None:
        """Make the clients that answers will need: what a restored snapshot should bring with it."""
        if self.service.holder.served is None:
            return
        client = self.service.prepare().gpu
        if isinstance(client, EventualGpu):
            client.warm().result()
        if self.service.settings.role == "front":  # it has no other way to an answer than boto3's clients
            self.clients.get("lambda", patient=True)

    def log_start(self) -> None:
        """One line that says what serves here, or why nothing does."""
        holder, settings = self.service.holder, self.service.settings
        about = {
            "release": holder.served.manifest.release if holder.served is not None else None,
            "threads": settings.threads,
            "cpu_flags": cpu_flags(),
            "role": settings.role,
        }
        if holder.error is None:
            self.logger.info("ready", extra=about)
        else:
            self.logger.error("not ready", extra={**about, "error": str(holder.error)})


def wire(
    settings: Settings,
    holder: ReleaseHolder,
    pool: Executor,
    clock: Callable[[], float],
    environ: Mapping[str, str],
) -> Running:
    """Put a function together around `holder`, which need not have loaded its release yet."""
    telemetry = Telemetry(settings)
    tracing = Tracing(settings.model, pool, environ)
    clients = AwsClients(settings.region)
    upkeep = Upkeep(settings, clients, pool, telemetry.logger, holder.load, time.time())

    def gpu(served: Served) -> GpuPath | None:
        if not settings.endpoint:
            return None
        hold_s = HOLD_S * max(1.0, MB_PER_VCPU / settings.memory_mb)
        made = EventualGpu(pool, lambda: _endpoint(settings, served), hold_s)
        upkeep.ahead.append(made.warm)
        return made

    draws: list[random.Random] = []

    def draw() -> float:
        if not draws:  # seeded with the first request: what a snapshot restores would repeat itself
            draws.append(random.Random())  # noqa: S311 - no secret
        return draws[0].random()

    ports = Ports(
        cpu=lambda served: _cpu(settings, clients, served),
        gpu=gpu,
        shared=upkeep,
        ledger=Ledger(settings.budget, settings.model, upkeep if settings.table else NoCounter(), pool),
        pool=pool,
        clock=clock,
        wall=time.time,
        draw=draw,
        observe=telemetry.observe,
    )
    service = Service(settings, holder, ports)
    dispatch = Dispatch(service, telemetry.logger, telemetry.shadowed)
    return Running(dispatch, service, upkeep, tracing, clients, telemetry.logger)


def _cpu(settings: Settings, clients: AwsClients, served: Served) -> CpuPath:
    if served.session is not None:
        return InProcessCpu(served.session, served.manifest)
    from handlers.adapters.model_function import ModelFunction

    task = served.manifest.task
    return ModelFunction(
        lambda: clients.get("lambda", patient=True), settings.model_function, settings.model, task
    )


def _endpoint(settings: Settings, served: Served) -> GpuPath:
    from handlers.adapters.endpoint import GpuEndpoint

    manifest = served.manifest
    client = GpuEndpoint(
        settings.region,
        settings.endpoint,
        settings.inference_component,
        manifest.tensors,
        manifest.graph_output,
    )
    gc.freeze()  # nor for searching what boto3 made
    return client


def cpu_flags() -> list[str]:
    """The vector extensions of this machine that int8 kernels depend on; Lambda promises none of them."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm", "sve")
    try:
        with open("/proc/cpuinfo") as stream:
            for line in stream:
                name, _, flags = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    found = set(flags.split())
                    return [flag for flag in wanted if flag in found]
    except OSError:
        pass
    return [sys.platform, os.uname().machine]
