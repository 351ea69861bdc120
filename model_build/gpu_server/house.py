"""The server as a whole: which release is served, the processes that run it, swap and drain.

A release is loaded by fresh workers beside the old ones; only when all have answered their warm-up do new
requests go to it, and the old workers end when their last batch is back. A worker that dies is started again,
with growing pauses; meanwhile /ping says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handlers.errors import ReleaseError, TurnoutError
from handlers.serving import manifest as manifests
from model_build.gpu_server import spec as specs
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.batching import Curve, buckets
from model_build.gpu_server.child import Child
from model_build.gpu_server.connection import READ_SIZE
from model_build.gpu_server.decoder import Decoder
from model_build.gpu_server.engine import Engine
from model_build.gpu_server.lane import DEPTH, Lane
from model_build.gpu_server.metrics import Metrics
from model_build.gpu_server.pace import Pace
from model_build.gpu_server.service import Service
from model_build.gpu_server.settings import Settings
from model_build.gpu_server.spec import GraphSpec
from model_build.gpu_server.worker import Orders

logger = logging.getLogger("turnout.gpu")
MAX_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A verified release on disk: what its workers are told, and how long a batch may wait, s."""

    spec: GraphSpec
    orders: Orders
    max_wait_s: float


@dataclass(slots=True, eq=False)
class Crew:
    """The workers of one release. `children` holds the live ones by device."""

    loaded: Loaded
    devices: tuple[str, ...]
    children: dict[str, Child] = field(default_factory=dict)
    ready: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: Engine | None = None
    failures: int = 0
    retired: bool = False


class House:
    """Holds arena, service and crews; one for each process."""

    def __init__(self, settings: Settings, devices: tuple[str, ...]) -> None:
        self._settings = settings
        self._devices = devices
        self._loop = asyncio.get_running_loop()
        self.metrics = Metrics()
        self.pace = Pace(self._loop)
        # Beside the requests' slots, each worker of two releases (a swap) needs places for its answers.
        places = 2 * DEPTH * len(devices)
        self.arena = Arena(READ_SIZE + settings.max_body_bytes, settings.max_queue + places)
        self.decoder = Decoder(self.arena.fd)
        deadline_s = settings.deadline_ms / 1000
        self.service = Service(self.arena, self.decoder, self.metrics, deadline_s, self.state)
        self._crew: Crew | None = None
        self._reason = "the model is loading"
        self._tasks: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()

    def state(self) -> tuple[bool, dict[str, object]]:
        """(healthy, what /ping says)."""
        engine = self.service.engine
        healthy = engine is not None and len(engine.lanes) > 0 and not self.service.draining
        document: dict[str, object] = {"status": "ready" if healthy else "unavailable"}
        if self.service.draining:
            document["reason"] = "the server is shutting down"
        elif self._reason:
            document["reason"] = self._reason
        if self._crew is not None and engine is not None:
            document["model"] = engine.spec.model
            document["release"] = engine.spec.release
            document["max_batch"] = engine.curve.max_batch
            document["workers"] = {
                device: ready["device"]
                for device, ready in self._crew.ready.items()
                if device in self._crew.children
            }
        return healthy, document

    async def swap(self) -> bool:
        """Serve the release that is in the model folder now; False, and a reason in /ping, when it fails."""
        async with self._swapping:
            try:
                loaded = await asyncio.to_thread(open_release, self._settings)
                crew = await self._start_crew(loaded)
            except TurnoutError as error:
                self._reason = f"loading failed: {error}"
                logger.error(self._reason)
                return False
            old, self._crew = self._crew, crew
            self.service.engine = crew.engine
            self._reason = ""
            logger.info("serving %s release %s", loaded.spec.model, loaded.spec.release)
            if old is not None:
                self.metrics.swaps += 1
                await self._retire(old)
            return True

    async def drain(self) -> None:
        """Refuse the new, finish what is in flight (up to `drain_s`), end the workers."""
        self.service.draining = True
        crew, self._crew = self._crew, None
        if crew is not None:
            await self._retire(crew)
        await self.decoder.stop()
        for task in self._tasks:
            task.cancel()

    async def _start_crew(self, loaded: Loaded) -> Crew:
        crew = Crew(loaded, self._devices)
        try:
            lanes = await asyncio.gather(*(self._start_worker(crew, device) for device in self._devices))
        except ReleaseError:
            crew.retired = True
            await asyncio.gather(*(child.stop() for child in list(crew.children.values())))
            raise
        crew.engine = self._engine(crew)
        for lane in lanes:
            crew.engine.add_lane(lane)
        return crew

    def _engine(self, crew: Crew) -> Engine:
        measured: dict[str, float] = crew.ready[self._devices[0]]["curve"]
        curve = Curve(tuple(map(int, measured)), tuple(measured.values()), crew.loaded.orders.padded)
        return Engine(crew.loaded.spec, self.arena, curve, crew.loaded.max_wait_s, self.pace, self.metrics)

    async def _start_worker(self, crew: Crew, device: str) -> Lane:
        """Start one worker and wait until it is warm. Raises ReleaseError with its reason when it is not."""
        ready: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        outs = [slot for slot in (self.arena.acquire() for _ in range(DEPTH)) if slot is not None]
        lane = Lane(lambda message: child.send(message), outs, lambda: child.collect())

        def on_message(message: dict[str, Any]) -> None:
            if "batch" in message and crew.engine is not None:
                crew.engine.on_reply(lane, message)
            elif not ready.done():
                ready.set_result(message)

        def on_exit(status: int) -> None:
            for out in (*lane.outs, *(batch.out for batch in lane.batches.values())):
                self.arena.release(out)
            if not ready.done():
                ready.set_result(
                    {"failed": f"the worker ended with status {status} while it loaded the model"}
                )
            elif not crew.retired:
                self._on_death(crew, device, lane, status)

        orders = crew.loaded.orders
        arguments = (_for_device(orders, device).to_json(), specs.to_json(crew.loaded.spec))
        child = await Child.start(
            "model_build.gpu_server.worker", arguments, self.arena.fd, on_message, on_exit
        )
        crew.children[device] = child
        message = await ready
        if "failed" in message:
            crew.children.pop(device, None)
            raise ReleaseError(f"{crew.loaded.spec.release} on {device}: {message['failed']}")
        crew.ready[device] = message["ready"]
        return lane

    def _on_death(self, crew: Crew, device: str, lane: Lane, status: int) -> None:
        crew.children.pop(device, None)
        self._reason = f"the worker on {device} ended with status {status} and is being restarted"
        logger.error(self._reason)
        if crew.engine is not None:
            crew.engine.lose_lane(lane, self._reason)
        self._spawn(self._restart(crew, device))

    async def _restart(self, crew: Crew, device: str) -> None:
        while not crew.retired:
            await asyncio.sleep(min(MAX_PAUSE_S, 0.1 * 2**crew.failures) if crew.failures else 0)
            try:
                lane = await self._start_worker(crew, device)
            except ReleaseError as error:
                crew.failures += 1
                self._reason = f"restarting failed: {error}"
                logger.error(self._reason)
                continue
            self.metrics.restarts += 1
            if crew.engine is not None and not crew.retired:
                crew.engine.add_lane(lane)
            if len(crew.children) == len(self._devices):
                self._reason = ""
            logger.info("the worker on %s is back", device)
            return

    async def _retire(self, crew: Crew) -> None:
        """Let a crew finish what it has, then end it."""
        idle = asyncio.Event()
        if crew.engine is not None:
            crew.engine.on_idle(idle.set)
            try:
                await asyncio.wait_for(idle.wait(), self._settings.drain_s)
            except TimeoutError:
                logger.error(
                    "not drained after %g s: ending the workers all the same", self._settings.drain_s
                )
        crew.retired = True
        await asyncio.gather(*(child.stop() for child in list(crew.children.values())))

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def open_release(settings: Settings) -> Loaded:
    """Verify the release in the model folder and say how to run it.

    The folder is a release, or a store with a `current` file that names one. Raises ReleaseError.
    """
    folder = release_folder(settings.model_dir)
    manifest = manifests.load(folder)
    variant = manifest.gpu
    if variant is None:
        raise ReleaseError(f"release {manifest.release} has no gpu variant")
    manifests.verify(folder, manifest, (variant.file,))
    spec = specs.from_manifest(manifest)
    profile = manifest.profile.get("gpu", {})
    max_batch = settings.max_batch or int(profile.get("max_batch", 32))
    max_wait_ms = (
        settings.max_wait_ms if settings.max_wait_ms is not None else float(profile.get("max_wait_ms", 2))
    )
    largest = max(spec.output.row_bytes, 1) * max_batch
    if largest > settings.max_body_bytes:
        raise ReleaseError(
            f"a batch of {max_batch} answers {largest} bytes; at most {settings.max_body_bytes}"
        )
    orders = Orders(
        path=str(folder / variant.file),
        device=settings.device,
        engine=settings.engine,
        precision=settings.precision,
        sizes=buckets(max_batch),
        padded=settings.engine != "eager",
        threads=settings.threads,
        pinned=settings.pinned,
        cuda_graphs=settings.cuda_graphs,
        overlap=settings.overlap,
    )
    return Loaded(spec, orders, max_wait_ms / 1000)


def release_folder(model_dir: Path) -> Path:
    """The folder itself when it holds a manifest, else the release that its `current` file names."""
    current = model_dir / "current"
    if not (model_dir / manifests.MANIFEST_NAME).exists() and current.is_file():
        return model_dir / current.read_text().strip()
    return model_dir


def _for_device(orders: Orders, device: str) -> Orders:
    from dataclasses import replace

    return replace(orders, device=device, padded=orders.padded or (device != "cpu" and orders.cuda_graphs))


def find_devices(device: str, count: Callable[[], int]) -> tuple[str, ...]:
    """One worker per GPU; CPU has one. `count()` is the number of GPUs, asked only when it matters."""
    gpus = count() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise ReleaseError("TURNOUT_GPU_DEVICE=cuda, but no GPU is visible")
    return tuple(f"cuda:{index}" for index in range(gpus)) or ("cpu",)
