"""Hosts SageMaker endpoints: N `model_build.gpu_server` processes behind InvokeEndpoint, N as AWS is asked.

Requests go to the ready process with the fewest outstanding. Errors are those of SageMaker: a container's
own error comes back as ModelError with its status inside, no process at all as ValidationError.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from scripts.local.deployed import Variant
from scripts.local.endpoint_metrics import Minutes
from scripts.local.gpu_process import GpuProcess

log = logging.getLogger(__name__)
INVOKE_TIMEOUT_S = 60.0
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """An HTTP answer of the data plane."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Fleet:
    """The processes of one variant or inference component."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.processes: list[GpuProcess] = []
        self.reported: int | None = None
        self.invocations = 0
        self.no_capacity = 0
        self.instance_s = 0.0
        self.metrics = Minutes()
        self._counted_s = time.monotonic()

    def count_time(self) -> None:
        """Adds what has been rented since the last call: starting instances are paid for too."""
        if self.ready:
            in_flight = sum(process.outstanding for process in self.ready)
            self.metrics.at(time.time()).concurrent.append(in_flight / len(self.ready))
        now = time.monotonic()
        self.instance_s += len(self.processes) * (now - self._counted_s)
        self._counted_s = now

    @property
    def ready(self) -> list[GpuProcess]:
        return [process for process in self.processes if process.ready]


class EndpointHost:
    """All endpoints; `follow` makes the processes as many as AWS is asked for."""

    def __init__(
        self, launch: Callable[[Variant], GpuProcess], report: Callable[[Variant, int], Awaitable[None]]
    ) -> None:
        self._launch, self._report = launch, report
        self.fleets: dict[str, Fleet] = {}
        self._client: aiohttp.ClientSession

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0)
        self._client = aiohttp.ClientSession(connector=connector)

    async def close(self) -> None:
        """Ends every process."""
        processes = [process for fleet in self.fleets.values() for process in fleet.processes]
        await asyncio.gather(*(process.stop() for process in processes))
        if self._client is not None:
            await self._client.close()

    async def follow(self, variants: list[Variant]) -> None:
        """One round: drop dead processes, start or stop some, probe the starting ones, report what runs."""
        for variant in variants:
            fleet = self.fleets.setdefault(variant.name, Fleet(variant))
            if fleet.variant.model_data != variant.model_data:
                await asyncio.gather(*(process.stop() for process in fleet.processes))
                fleet.processes.clear()
            fleet.variant = variant
            await self._scale(fleet)
        for name in [name for name in self.fleets if name not in {v.name for v in variants}]:
            await asyncio.gather(*(process.stop() for process in self.fleets.pop(name).processes))

    async def _scale(self, fleet: Fleet) -> None:
        fleet.count_time()
        for process in [p for p in fleet.processes if not p.alive]:
            log.warning("%s: process %s ended, see %s", fleet.variant.name, process.pid, process.log)
            fleet.processes.remove(process)
        while len(fleet.processes) < fleet.variant.desired:
            process = self._launch(fleet.variant)
            await process.start()
            fleet.processes.append(process)
        surplus = fleet.processes[fleet.variant.desired :]
        del fleet.processes[fleet.variant.desired :]
        await asyncio.gather(*(process.drain() for process in surplus))
        await asyncio.gather(
            *(process.probe(self._client) for process in fleet.processes if not process.ready)
        )
        if fleet.reported != len(fleet.ready):
            fleet.reported = len(fleet.ready)
            await self._report(fleet.variant, fleet.reported)

    async def invoke(
        self, endpoint: str, component: str, headers: Mapping[str, str], body: bytes
    ) -> EndpointAnswer:
        """One InvokeEndpoint call."""
        fleets = [
            f
            for f in self.fleets.values()
            if f.variant.endpoint == endpoint and (not component or f.variant.component == component)
        ]
        if not fleets:
            return error(400, "ValidationError", f"Endpoint {endpoint} of account 123456789012 not found.")
        if len(body) > MAX_PAYLOAD_BYTES:
            return error(
                413, "ValidationError", f"Request body of {len(body)} bytes exceeds {MAX_PAYLOAD_BYTES}"
            )
        fleet = fleets[0]
        fleet.invocations += 1
        minute = fleet.metrics.at(time.time())
        minute.invocations += 1
        if not fleet.ready:
            fleet.no_capacity += 1
            minute.no_capacity += 1
            what = "Inference Component" if fleet.variant.component else "Variant"
            return error(
                400,
                "ValidationError",
                f"{what} has no capacity to process this request. ApplicationAutoScaling may be in-progress "
                "(if configured) or try to increase the capacity by invoking "
                "UpdateInferenceComponentRuntimeConfig API.",
            )
        process = min(fleet.ready, key=lambda candidate: candidate.outstanding)
        began = time.perf_counter()
        answer = await self._ask(process, headers, body)
        if answer.status == 200:
            minute.model_us.append((time.perf_counter() - began) * 1e6)
        return answer

    async def _ask(self, process: GpuProcess, headers: Mapping[str, str], body: bytes) -> EndpointAnswer:
        process.outstanding += 1
        timeout = aiohttp.ClientTimeout(total=INVOKE_TIMEOUT_S)
        try:
            async with self._client.post(
                f"{process.url}/invocations", data=body, headers=headers, timeout=timeout
            ) as answer:
                payload = await answer.read()
                if answer.status == 200:
                    kept = {n: v for n, v in answer.headers.items() if returned(n)}
                    kept["X-Amzn-Invoked-Production-Variant"] = process.variant.variant
                    return EndpointAnswer(200, payload, kept)
                return model_error(answer.status, payload)
        except TimeoutError:
            return model_error(0, b"Your invocation timed out while waiting for a response from container")
        except aiohttp.ClientError as broken:
            process.ready = process.ready and process.alive
            return model_error(500, f"Received server error (500) from model: {broken}".encode())
        finally:
            process.outstanding -= 1

    def status(self) -> list[dict[str, object]]:
        """For `turnout status` and `turnout top`."""
        return [
            {
                "endpoint": f.variant.endpoint,
                "component": f.variant.component,
                "desired": f.variant.desired,
                "ready": len(f.ready),
                "starting": len(f.processes) - len(f.ready),
                "invocations": f.invocations,
                "no_capacity": f.no_capacity,
                "instance_s": round(f.instance_s, 1),
                "pids": [p.pid for p in f.processes],
                "outstanding": sum(p.outstanding for p in f.processes),
            }
            for f in self.fleets.values()
        ]


def returned(header: str) -> bool:
    """The container's response headers that SageMaker hands back."""
    return header.lower() in ("content-type", "x-amzn-sagemaker-custom-attributes")


def error(status: int, kind: str, text: str) -> EndpointAnswer:
    body = json.dumps({"Message": text}).encode()
    return EndpointAnswer(status, body, {"Content-Type": "application/json", "X-Amzn-ErrorType": kind})


def model_error(status: int, body: bytes) -> EndpointAnswer:
    """A container's failure as SageMaker wraps it: HTTP 424, the original inside."""
    original = body.decode(errors="replace")[:2048]
    side = "client" if 400 <= status < 500 else "server"
    document = {
        "ErrorCode": f"{side.upper()}_ERROR_FROM_MODEL",
        "LogStreamArn": "",
        "Message": f'Received {side} error ({status}) from model with message "{original}".',
        "OriginalMessage": original,
        "OriginalStatusCode": status,
    }
    headers = {"Content-Type": "application/json", "X-Amzn-ErrorType": "ModelError"}
    return EndpointAnswer(424, json.dumps(document).encode(), headers)
