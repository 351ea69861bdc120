"""An event in, a result out: the endpoints of the Open Inference Protocol on one model's service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from handlers.errors import TurnoutError, UnknownModel
from handlers.protocol.http import HttpRequest, HttpResponse, from_event, json_response, to_result
from handlers.protocol.routes import match
from handlers.protocol.statuses import error_response
from handlers.serving.shadow import Comparison, compare

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from handlers.serving.service import Service

VERSION = "0.1.0"


class Dispatch:
    """Maps routes to the service's methods, and errors to statuses."""

    def __init__(
        self, service: Service, logger: Logger, shadowed: Callable[[Comparison | None, float], None]
    ) -> None:
        self._service = service
        self._logger = logger
        self._shadowed = shadowed

    def answer(self, event: dict[str, Any], request_id: str) -> dict[str, Any]:
        """One event → one result; every TurnoutError becomes its status, anything else a logged 500."""
        try:
            return to_result(self._dispatch(from_event(event)))
        except TurnoutError as error:
            response = error_response(error)
        except Exception:
            self._logger.exception("a fault of turnout's own")
            response = json_response({"error": f"internal error; the log has request {request_id}"}, 500)
        return to_result(response)

    def shadow(self, event: dict[str, Any]) -> None:
        """An asynchronous invocation that repeats a CPU answer on the GPU; nobody waits for it."""
        service, found = self._service, None
        began = service.now()
        try:
            gpu = service.prepare().gpu
            if gpu is None:
                return
            found = compare(event, service.holder.current().manifest, gpu)
        except TurnoutError as error:
            self._logger.warning("shadow failed", extra={"error": str(error)})
        self._shadowed(found, service.charge_shadow(began, len(event["body"])))

    def _dispatch(self, http: HttpRequest) -> HttpResponse:
        service = self._service
        route = match(http.method, http.path, service.settings.model)
        if route.version is not None:
            self._check_version(route.version)
        if route.action == "infer":
            return service.infer(http)
        if route.action == "route":
            return service.route(http)
        if route.action == "server":
            return json_response(
                {"name": "turnout", "version": VERSION, "extensions": ["binary_tensor_data"]}
            )
        if route.action == "live":
            return json_response({"live": True})
        return self._ready() if route.action == "ready" else self._metadata()

    def _ready(self) -> HttpResponse:
        holder = self._service.holder
        manifest = holder.current().manifest
        document: dict[str, Any] = {"name": manifest.model, "ready": True, "release": manifest.release}
        if holder.error is not None:
            document["newer_release_refused"] = str(holder.error)
        return json_response(document)

    def _metadata(self) -> HttpResponse:
        manifest = self._service.holder.current().manifest
        tensors = {
            kind: [{"name": s.name, "datatype": s.dtype, "shape": list(s.shape)} for s in specs]
            for kind, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs))
        }
        about = {"task": manifest.task, "labels": list(manifest.labels), "precision": manifest.cpu.precision}
        document = {"name": manifest.model, "versions": [manifest.release], "platform": "onnxruntime_onnx"}
        return json_response({**document, **tensors, "parameters": about})

    def _check_version(self, version: str) -> None:
        release = self._service.holder.current().manifest.release
        if version != release:
            raise UnknownModel("version", version, release)
