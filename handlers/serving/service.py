"""One model's service: a request comes in, a decision is made and carried out, an answer goes out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from handlers.errors import BudgetExhausted, InvalidInput, Overloaded, UnknownModel
from handlers.protocol.constraints import parse_constraints
from handlers.protocol.http import HttpRequest, HttpResponse, json_response
from handlers.protocol.infer import BINARY_TYPE, HEADER_LENGTH, JSON_TYPE, encode_response, parse_request
from handlers.routing.policy import decide
from handlers.routing.types import (
    Cascade,
    CurvePoint,
    Decision,
    Economics,
    Reason,
    Request,
    Snapshot,
    Topology,
)
from handlers.serving import explain, race
from handlers.serving.paths import Job
from handlers.serving.postprocess import wire_outputs

if TYPE_CHECKING:
    from handlers.protocol.infer import InferRequest
    from handlers.serving.holder import ReleaseHolder
    from handlers.serving.paths import CpuPath, GpuPath
    from handlers.serving.race import Answer
    from handlers.serving.release import Served
    from handlers.serving.sandbox import Sandbox
    from handlers.settings import Settings

VERSION = "0.1.0"


class Handled(NamedTuple):
    """What the telemetry of one inference needs."""

    request: Request
    decision: Decision
    answer: Answer
    caller: str
    release: str
    actual_ms: float
    cost_usd: float


class Ports(NamedTuple):
    """What a service does its work with; `clock` is monotonic seconds, `draw` a uniform random number."""

    cpu: Callable[[Served], CpuPath]
    gpu: Callable[[Served], GpuPath | None]
    pool: Executor
    clock: Callable[[], float]
    observe: Callable[[Handled], None]
    draw: Callable[[], float] = random.random


class Service:
    """Serves one model; every method that answers raises TurnoutError for what `statuses` maps."""

    def __init__(self, settings: Settings, holder: ReleaseHolder, sandbox: Sandbox, ports: Ports) -> None:
        self._settings = settings
        self._holder = holder
        self._sandbox = sandbox
        self._ports = ports
        self._economics = Economics.parse(settings.economics)
        self._built: tuple[Served, Snapshot, race.Paths] | None = None

    def prepare(self) -> None:
        """Make now what the first request would make, the endpoint's client included (for SnapStart)."""
        if self._holder.served is not None:
            self._parts()

    def refresh(self) -> None:
        """Follow the pointer again; a release that cannot be opened leaves the present one in place."""
        self._holder.load()

    def server_metadata(self) -> HttpResponse:
        """`GET /v2`."""
        return json_response({"name": "turnout", "version": VERSION, "extensions": ["binary_tensor_data"]})

    def live(self) -> HttpResponse:
        """`GET /v2/health/live`: this code runs."""
        return json_response({"live": True})

    def ready(self) -> HttpResponse:
        """`GET /v2/health/ready` and the model's: a release is open. Raises ReleaseError with the reason."""
        served = self._holder.current()
        document: dict[str, Any] = {
            "name": self._settings.model,
            "ready": True,
            "release": served.manifest.release,
        }
        if self._holder.error is not None:
            document["newer_release_refused"] = str(self._holder.error)
        return json_response(document)

    def model_metadata(self) -> HttpResponse:
        """`GET /v2/models/{model}`."""
        manifest = self._holder.current().manifest
        tensors = {
            kind: [{"name": s.name, "datatype": s.dtype, "shape": list(s.shape)} for s in specs]
            for kind, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs))
        }
        return json_response(
            {
                "name": manifest.model,
                "versions": [manifest.release],
                "platform": "onnxruntime_onnx",
                **tensors,
                "parameters": {
                    "task": manifest.task,
                    "labels": list(manifest.labels),
                    "samples": manifest.samples,
                },
            }
        )

    def check_version(self, version: str | None) -> None:
        """Raises UnknownModel when the URL names a version other than the release that is served."""
        if version is not None:
            release = self._holder.current().manifest.release
            if version != release:
                raise UnknownModel("version", version, release)

    def route(self, http: HttpRequest) -> HttpResponse:
        """`/v2/models/{model}/route`: the decision for this request, not carried out."""
        served, snapshot, _ = self._parts()
        if http.body:
            parsed = _parse(http, served)
            request = self._request(
                parsed.parameters, http, parsed.items, len(http.body), self._ports.clock()
            )
        else:
            request = self._request({}, http, 1, 0, self._ports.clock())
        decision = decide(request, snapshot, self._sandbox.view(), self._ports.clock())
        return json_response(explain.decision_document(decision, snapshot, self._settings))

    def infer(self, http: HttpRequest) -> HttpResponse:
        """`POST /v2/models/{model}/infer`."""
        clock = self._ports.clock
        arrived = clock()
        served, snapshot, paths = self._parts()
        parsed = _parse(http, served)
        request = self._request(parsed.parameters, http, parsed.items, len(http.body), arrived)
        arrays = served.preprocess([tensor.array for tensor in parsed.inputs])
        decided = clock()
        decision = decide(request, snapshot, self._sandbox.view(), decided)
        decide_ms = (clock() - decided) * 1000.0
        if not decision.admitted:
            raise _refusal(decision)
        self._sandbox.started(decision, decided)
        job = Job(parsed.inputs, arrays, parsed.items, arrived, request.priority.name.lower())
        answer = race.run(job, decision, paths)
        now = clock()
        actual_ms = (now - arrived) * 1000.0
        self._sandbox.answered(answer, now)
        spent = explain.cost_usd(answer, decision, actual_ms, self._economics, self._settings.memory_mb)
        response = _response(parsed, served, answer, decision, actual_ms, decide_ms, spent)
        self._ports.observe(
            Handled(request, decision, answer, http.caller, served.manifest.release, actual_ms, spent)
        )
        return response

    def _request(
        self, parameters: Mapping[str, Any], http: HttpRequest, items: int, payload_bytes: int, arrived: float
    ) -> Request:
        given = parse_constraints(parameters, http.headers)
        given.setdefault("latency_slo_ms", self._settings.latency_slo_ms)
        given.setdefault("attainment", self._settings.attainment)
        return Request(
            items=items,
            payload_bytes=payload_bytes,
            elapsed_ms=(self._ports.clock() - arrived) * 1000.0,
            draw=self._ports.draw(),
            **given,
        )

    def _parts(self) -> tuple[Served, Snapshot, race.Paths]:
        served = self._holder.current()
        built = self._built
        if built is None or built[0] is not served:
            built = self._built = (served, self._default_snapshot(served), self._paths(served))
        return built

    def _paths(self, served: Served) -> race.Paths:
        manifest, ports = served.manifest, self._ports
        temperature = manifest.gpu.temperature if manifest.gpu is not None else 1.0
        return race.Paths(
            ports.cpu(served), ports.gpu(served), ports.pool, ports.clock, manifest.task, temperature
        )

    def _default_snapshot(self, served: Served) -> Snapshot:
        settings, cascade = self._settings, served.manifest.cascade
        has_gpu = bool(settings.endpoint)
        curve = () if cascade is None else cascade.curve
        points = tuple(CurvePoint(p.threshold, p.escalation_share, p.accuracy) for p in curve)
        return Snapshot.from_profile(
            served.profile if has_gpu else replace(served.profile, gpu=None),
            self._economics,
            model=settings.model,
            release=served.manifest.release,
            topology=Topology.SPLIT if settings.role == "front" else Topology.COLOCATED,
            policy=settings.policy,
            cascade=None
            if cascade is None
            else Cascade(cascade.threshold, cascade.escalation_share, cascade.accuracy, points),
            # Unless told otherwise a configured endpoint is taken for awake: one failed call, covered by the
            # standby, is cheaper than never asking it where there is no shared store.
            gpu_ready=1 if has_gpu else 0,
        )


def _parse(http: HttpRequest, served: Served) -> InferRequest:
    names = [spec.name for spec in served.manifest.outputs]
    return parse_request(http.body, http.headers.get(HEADER_LENGTH), served.manifest.inputs, names)


def _refusal(decision: Decision) -> Overloaded | BudgetExhausted:
    retry_s = decision.retry_after_s or 1.0
    if decision.reason is Reason.BUDGET_EXHAUSTED:
        return BudgetExhausted(f"the budget is spent; it renews in {retry_s:.0f} s", retry_s)
    return Overloaded(
        f"no path answers within {decision.deadline_ms:g} ms (on_miss=refuse); best: {decision.path}"
        f" in {decision.predicted_ms:.1f} ms",
        retry_s,
    )


def _response(
    parsed: InferRequest,
    served: Served,
    answer: Answer,
    decision: Decision,
    actual_ms: float,
    decide_ms: float,
    spent: float,
) -> HttpResponse:
    release = served.manifest.release
    head: dict[str, Any] = {
        "model_name": served.manifest.model,
        "model_version": release,
        "parameters": explain.response_parameters(answer, decision, release, actual_ms, spent),
    }
    if parsed.id:
        head["id"] = parsed.id
    try:
        body, size = encode_response(head, wire_outputs(answer.scored, served.manifest), parsed.outputs)
    except ValueError as error:  # JSON has no NaN: a model that gives one cannot answer this input
        raise InvalidInput(
            "inputs", "accepted", f"values for which the model's answer is finite ({error})"
        ) from error
    headers = {
        "content-type": JSON_TYPE if size is None else BINARY_TYPE,
        "server-timing": explain.server_timing(answer, decide_ms, actual_ms),
    }
    if size is not None:
        headers[HEADER_LENGTH] = str(size)
    return HttpResponse(200, headers, body, binary=size is not None)
