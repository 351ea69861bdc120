"""The two data planes that AWS clients call: Lambda's Invoke and SageMaker's InvokeEndpoint.

Any other call to this port goes on to moto, so that one endpoint URL serves a whole client.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp import web

from scripts.local.deployed import Function
from scripts.local.endpoint_host import EndpointHost
from scripts.local.function_host import FunctionHost, Throttled, UnknownFunction
from scripts.local.payload import MAX_INVOKE_BYTES
from scripts.local.sandbox import Invocation

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_ASYNC_BYTES = 1024 * 1024
ASYNC_RETRY_DELAYS_S = (60.0, 120.0)
THROTTLED_RETRY_S = 1.0


class DataPlane:
    """The aiohttp handlers of both."""

    def __init__(self, functions: FunctionHost, endpoints: EndpointHost, aws_url: str) -> None:
        self._functions, self._endpoints, self._aws_url = functions, endpoints, aws_url
        self._client: aiohttp.ClientSession
        self._events: set[asyncio.Task[None]] = set()

    def app(self, status: Handler) -> web.Application:
        """`status` answers GET /turnout/status."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/turnout/status", status)
        app.router.add_post("/2015-03-31/functions/{name}/invocations", self.invoke)
        app.router.add_post("/endpoints/{name}/invocations", self.invoke_endpoint)
        app.router.add_route("*", "/{rest:.*}", self.forward)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _app: web.Application) -> None:
        self._client = aiohttp.ClientSession(auto_decompress=False)

    async def _close(self, _app: web.Application) -> None:
        await self._client.close()

    async def invoke(self, request: web.Request) -> web.Response:
        """Lambda Invoke: RequestResponse, Event, DryRun; name, name:qualifier or an ARN."""
        name, _, qualifier = request.match_info["name"].rpartition(":function:")[2].partition(":")
        qualifier = qualifier or request.query.get("Qualifier", "$LATEST")
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        event = await request.read() or b"{}"
        limit = MAX_ASYNC_BYTES if kind == "Event" else MAX_INVOKE_BYTES
        if len(event) > limit:
            text = (
                f"{len(event)} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
            )
            return aws_error(413, "RequestTooLargeException", {"Message": text})
        if self._functions.deployed.resolve(name, qualifier, 0.0) is None:
            return aws_error(
                404, "ResourceNotFoundException", {"Message": f"Function not found: {name}:{qualifier}"}
            )
        if kind == "DryRun":
            return web.Response(status=204)
        if kind == "Event":
            task = asyncio.create_task(self._run_event(name, qualifier, event))
            self._events.add(task)
            task.add_done_callback(self._events.discard)
            return web.Response(status=202)
        try:
            function, outcome = await self._functions.invoke(name, qualifier, event)
        except Throttled:
            body = {
                "Reason": "ConcurrentInvocationLimitExceeded",
                "Type": "User",
                "message": "Rate Exceeded.",
            }
            return aws_error(429, "TooManyRequestsException", body)
        headers = {"X-Amz-Executed-Version": function.version}
        if outcome.error:
            headers["X-Amz-Function-Error"] = outcome.error
        return web.Response(body=outcome.payload, headers=headers, content_type="application/json")

    async def _run_event(self, name: str, qualifier: str, event: bytes) -> None:
        for delay_s in (*ASYNC_RETRY_DELAYS_S, None):
            try:
                _, outcome = await self._admitted(name, qualifier, event)
            except UnknownFunction:
                log.warning("event for %s:%s dropped: the function is gone", name, qualifier)
                return
            if outcome.error is None:
                return
            log.warning("event for %s:%s failed: %s", name, qualifier, outcome.payload[:500])
            if delay_s is None:
                return
            await asyncio.sleep(delay_s)

    async def _admitted(self, name: str, qualifier: str, event: bytes) -> tuple[Function, Invocation]:
        """Lambda keeps events that it throttles in its queue (for six hours) and tries again."""
        while True:
            try:
                return await self._functions.invoke(name, qualifier, event)
            except Throttled:
                await asyncio.sleep(THROTTLED_RETRY_S)

    async def invoke_endpoint(self, request: web.Request) -> web.Response:
        """SageMaker InvokeEndpoint."""
        answer = await self._endpoints.invoke(
            request.match_info["name"],
            request.headers.get("X-Amzn-SageMaker-Inference-Component", ""),
            {name: value for name, value in request.headers.items() if forwarded(name)},
            await request.read(),
        )
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    async def forward(self, request: web.Request) -> web.Response:
        """Everything else, to moto."""
        headers = {
            name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"
        }
        async with self._client.request(
            request.method, self._aws_url + request.path_qs, headers=headers, data=await request.read()
        ) as answer:
            kept = {
                n: v for n, v in answer.headers.items() if n.lower() not in ("content-length", "connection")
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


def forwarded(header: str) -> bool:
    """The request headers that SageMaker hands to the container."""
    name = header.lower()
    return name in ("content-type", "accept") or name.startswith("x-amzn-sagemaker-")


def aws_error(status: int, kind: str, body: Mapping[str, object]) -> web.Response:
    """An error in the REST JSON protocol of AWS."""
    return web.Response(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers={"X-Amzn-ErrorType": kind},
    )
