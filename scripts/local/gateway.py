"""The API on the laptop: API Gateway's routing, events, limits and error bodies before the functions."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from handlers.errors import PointerMissing
from scripts.local import payload
from scripts.local.authorisation import Refused, authorizer
from scripts.local.function_host import FunctionHost, Throttled, UnknownFunction
from scripts.local.payload import HttpRequest, HttpResponse
from scripts.local.payload_rest import REST
from scripts.local.release_upload import current

PAGE = Path(__file__).parent / "page.html"
MODELS = "/v2/models/"


class Gateway:
    """Serves the first deployed API, and the page to try it in at `/`.

    A REST API answers under its stage's name, as on AWS, and without it, as behind a domain of its own.
    """

    def __init__(self, functions: FunctionHost, releases: Path) -> None:
        self._functions, self._releases = functions, releases

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2 * payload.MAX_REQUEST_BYTES)
        app.router.add_get("/", self.page)
        app.router.add_get("/models", self.models)
        app.router.add_get("/samples/{model}", self.samples)
        app.router.add_route("*", "/{rest:.*}", self.serve)
        return app

    async def page(self, _request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE)

    async def models(self, _request: web.Request) -> web.Response:
        """For the page: the models that have a route of their own."""
        keys = [route.key.partition(" ")[2] for api in self._functions.deployed.apis for route in api.routes]
        names = [key.removeprefix(MODELS) for key in keys if key.startswith(MODELS)]
        return web.json_response(sorted({name for name in names if name and not set("/{") & set(name)}))

    async def samples(self, request: web.Request) -> web.Response:
        """For the page: held-out examples of the model's release in the local store."""
        try:
            release = current(self._releases, request.match_info["model"])
        except PointerMissing as missing:
            return web.json_response({"error": str(missing)}, status=404)
        body = (release.folder / release.manifest()["samples"]).read_bytes()
        return web.Response(body=body, content_type="application/json")

    async def serve(self, request: web.Request) -> web.Response:
        """One request through API Gateway's own steps."""
        if (request.content_length or 0) > payload.MAX_REQUEST_BYTES:
            return too_long(request.content_length or 0)
        body = await request.read()
        if len(body) > payload.MAX_REQUEST_BYTES:
            return too_long(len(body))
        incoming = HttpRequest(
            request.method,
            request.rel_url.raw_path,
            request.rel_url.raw_query_string,
            list(request.headers.items()),
            body,
            request.remote or "127.0.0.1",
        )
        answer = await self.answer(incoming)
        headers = [*answer.headers, ("apigw-requestid", uuid.uuid4().hex[:16])]
        reply = web.Response(status=answer.status, body=answer.body)
        reply.headers.clear()
        for name, value in headers:
            reply.headers.add(name, value)
        return reply

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Match, invoke within the API's time, translate."""
        api = next(iter(self._functions.deployed.apis), None)
        if api is None:
            return payload.HTTP.no_route
        flavour = REST if api.kind == "rest" else payload.HTTP
        if api.kind == "rest" and request.path.startswith(f"/{api.stage}/"):
            request = replace(request, path=request.path.removeprefix(f"/{api.stage}"))
        matched = payload.match(api.routes, request.method, request.path)
        if matched is None:
            return flavour.no_route
        route, parameters = matched
        name, qualifier = payload.function_of(route.integration_uri, api.stage_variables)
        shown = next((value for key, value in request.headers if key.lower() == "authorization"), "")
        try:
            who = authorizer(route.authorization, shown, payload.ACCOUNT_ID)
        except Refused as refused:
            return refused.response
        now, request_id = datetime.now(UTC), str(uuid.uuid4())
        event = json.dumps(flavour.event(request, api, route, parameters, request_id, now, who)).encode()
        if len(event) > payload.MAX_INVOKE_BYTES:
            text = (
                f"body: {len(event)} bytes as a function's event is not allowed; "
                f"allowed: up to {payload.MAX_INVOKE_BYTES} (Lambda's limit)"
            )
            return payload.message(413, "Request Too Long", error=text)
        try:
            async with asyncio.timeout(flavour.timeout_s):
                _, outcome = await self._functions.invoke(name, qualifier, event)
        except TimeoutError:
            return flavour.late
        except Throttled:
            return flavour.throttled
        except UnknownFunction:
            return flavour.failed
        return flavour.failed if outcome.error else flavour.response(outcome.payload)


def too_long(size_bytes: int) -> web.Response:
    text = (
        f"body: {size_bytes} bytes is not allowed; allowed: up to {payload.MAX_REQUEST_BYTES} "
        "(API Gateway's limit)"
    )
    answer = payload.message(413, "Request Too Long", error=text)
    return web.Response(status=answer.status, body=answer.body, content_type="application/json")
