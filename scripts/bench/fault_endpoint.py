"""A SageMaker endpoint that misbehaves in one way: what the fault matrix puts behind the real client call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import web

from scripts.local.endpoint_host import error, model_error

Respond = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
SLOW_S = 5.0


def answer(status: int, body: bytes, kind: str = "") -> web.Response:
    headers = {"X-Amzn-ErrorType": kind} if kind else {}
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


async def slow(_request: web.Request, _body: bytes) -> web.StreamResponse:
    await asyncio.sleep(SLOW_S)
    return answer(200, b"{}")


async def hang(_request: web.Request, _body: bytes) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return answer(200, b"{}")


async def reset(request: web.Request, _body: bytes) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return answer(200, b"")


async def throttled(_request: web.Request, _body: bytes) -> web.StreamResponse:
    return answer(429, json.dumps({"Message": "Rate exceeded"}).encode(), "ThrottlingException")


async def busy(_request: web.Request, _body: bytes) -> web.StreamResponse:
    made = model_error(429, b'{"error": "cannot meet the deadline"}')
    return answer(made.status, made.body, "ModelError")


async def model_fails(_request: web.Request, _body: bytes) -> web.StreamResponse:
    made = model_error(500, b"CUDA error")
    return answer(made.status, made.body, "ModelError")


async def internal(_request: web.Request, _body: bytes) -> web.StreamResponse:
    return answer(500, b"{}", "InternalFailure")


async def asleep(_request: web.Request, _body: bytes) -> web.StreamResponse:
    text = "Inference Component has no capacity to process this request."
    made = error(400, "ValidationError", text)
    return answer(made.status, made.body, "ValidationError")


async def garbage(_request: web.Request, _body: bytes) -> web.StreamResponse:
    return web.Response(status=200, body=b"\x00\xff not an answer", content_type="application/json")


FAULTS: dict[str, Respond] = {
    "slow": slow, "hangs": hang, "resets": reset, "throttles": throttled, "busy (429)": busy,
    "ModelError": model_fails, "500": internal, "asleep": asleep, "garbage": garbage,
}  # fmt: skip


class FaultEndpoint:
    """Listens on a port; `mode` names the fault, or `none` to pass calls on to `sound_url`."""

    def __init__(self, sound_url: str) -> None:
        self.mode = "none"
        self.calls = 0
        self._sound_url = sound_url
        self._runner: web.AppRunner
        self._client: aiohttp.ClientSession

    async def open(self) -> str:
        """Starts listening; returns the URL."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        body = await request.read()
        if self.mode != "none":
            return await FAULTS[self.mode](request, body)
        async with self._client.request(
            request.method, self._sound_url + request.path_qs, headers=request.headers, data=body
        ) as sound:
            kept = {n: v for n, v in sound.headers.items() if n.lower() not in ("content-length", "date")}
            return web.Response(status=sound.status, body=await sound.read(), headers=kept)
