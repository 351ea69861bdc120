"""Init: everything that is made once in a sandbox, in the order that makes a cold start short.

The pointer and the release come over the network while numpy and ONNX Runtime are being imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.adapters.release_store import ReleaseStore
from handlers.adapters.signed_http import SignedHttp
from handlers.errors import EndpointTimeout, TurnoutError
from handlers.protocol.http import HttpRequest, HttpResponse, from_event, json_response, to_result
from handlers.protocol.routes import match
from handlers.protocol.statuses import error_response
from handlers.serving.holder import ReleaseHolder
from handlers.serving.paths import InProcessCpu
from handlers.serving.sandbox import Sandbox
from handlers.serving.service import Ports, Service
from handlers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from aws_lambda_powertools import Logger
    from numpy.typing import NDArray

    from handlers.serving.paths import CpuPath, GpuPath
    from handlers.serving.release import Served

POOL_THREADS = 16


class Running:
    """An initialised function."""

    def __init__(self, settings: Settings, service: Service, logger: Logger) -> None:
        self._settings = settings
        self._service = service
        self._logger = logger

    def answer(self, event: dict[str, Any], request_id: str) -> dict[str, Any]:
        """One event → one result; every TurnoutError becomes its status, anything else a logged 500."""
        try:
            response = self._dispatch(from_event(event))
        except TurnoutError as error:
            response = error_response(error)
        except Exception:
            self._logger.exception("a fault of turnout's own")
            response = json_response({"error": f"internal error; the log has request {request_id}"}, 500)
        return to_result(response)

    def refresh(self) -> None:
        """Follow the pointer again."""
        self._service.refresh()

    def _dispatch(self, http: HttpRequest) -> HttpResponse:
        route = match(http.method, http.path, self._settings.model)
        service = self._service
        if route.action == "server":
            return service.server_metadata()
        if route.action == "live":
            return service.live()
        service.check_version(route.version)
        if route.action == "infer":
            return service.infer(http)
        if route.action == "route":
            return service.route(http)
        return service.ready() if route.action == "ready" else service.model_metadata()


class EventualGpu:
    """The endpoint's client, made in the background when first asked for.

    Importing boto3 takes longer than a whole cold start without it, so neither init nor an answer waits for
    it unless that answer needs the GPU.
    """

    def __init__(self, pool: Executor, make: Callable[[], GpuPath]) -> None:
        self._pool = pool
        self._make = make
        self._client: Future[GpuPath] | None = None

    def warm(self) -> Future[GpuPath]:
        """Begin making the client, once."""
        if self._client is None:
            self._client = self._pool.submit(self._make)
        return self._client

    def infer(self, arrays: Sequence[NDArray[Any]], timeout_s: float, priority: str) -> NDArray[np.float32]:
        """As `GpuPath.infer`; waits for the client within the same timeout."""
        try:
            client = self.warm().result(timeout_s)
        except TimeoutError as error:
            raise EndpointTimeout("the endpoint's client was not ready before the deadline") from error
        return client.infer(arrays, timeout_s, priority)


def start(environ: Mapping[str, str], clock: Callable[[], float]) -> Running:
    """Initialise a function from its environment. Raises InvalidConfig; a bad release only unreadies it."""
    settings = Settings.from_env(environ)
    pool = ThreadPoolExecutor(POOL_THREADS, "turnout")
    store = ReleaseStore(
        SignedHttp(settings.region, environ), settings.bucket, settings.model, settings.pointer
    )
    root = Path(environ.get("TMPDIR", "/tmp"), "turnout")  # noqa: S108 - Lambda's only writable folder
    holder = ReleaseHolder(store, root, settings.threads, clock, with_graph=settings.role != "front")
    loading = pool.submit(holder.load)
    from handlers.adapters.telemetry import Telemetry

    telemetry = Telemetry(settings)

    def gpu(served: Served) -> GpuPath | None:
        if not settings.endpoint:
            return None
        return EventualGpu(pool, lambda: _endpoint(settings, served))

    ports = Ports(_cpu, gpu, pool, clock, telemetry.observe)
    service = Service(settings, holder, Sandbox(), ports)
    loading.result()
    _log_start(telemetry.logger, holder, settings)
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        service.prepare()
    return Running(settings, service, telemetry.logger)


def _cpu(served: Served) -> CpuPath:
    if served.session is None:
        raise AssertionError("a function without a session answers through the model's function")
    return InProcessCpu(served.session, served.manifest)


def _endpoint(settings: Settings, served: Served) -> GpuPath:
    from handlers.adapters.endpoint import GpuEndpoint

    manifest = served.manifest
    return GpuEndpoint(
        settings.region,
        settings.endpoint,
        settings.inference_component,
        manifest.tensors,
        manifest.graph_output,
    )


def _log_start(logger: Logger, holder: ReleaseHolder, settings: Settings) -> None:
    release = holder.served.manifest.release if holder.served is not None else None
    extra = {"release": release, "threads": settings.threads, "cpu_flags": cpu_flags(), "role": settings.role}
    if holder.error is None:
        logger.info("ready", extra=extra)
    else:
        logger.error("not ready", extra={**extra, "error": str(holder.error)})


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
