"""One model's service: a request comes in, a decision is made and carried out, an answer goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from handlers.errors import BudgetExhausted, Overloaded, PayloadTooLarge
from handlers.protocol.constraints import ConstraintReader
from handlers.protocol.http import FRONT, HttpRequest, HttpResponse, json_response
from handlers.protocol.infer import HEADER_LENGTH, parse_request
from handlers.routing.codec import usable
from handlers.routing.knobs import Knobs
from handlers.routing.observe import Observer
from handlers.routing.policy import decide
from handlers.routing.types import Decision, Economics, Priority, Reason, Request, Snapshot
from handlers.serving import explain, race
from handlers.serving.calls import Paths
from handlers.serving.defaults import default_snapshot
from handlers.serving.paths import Job

if TYPE_CHECKING:
    from handlers.protocol.infer import InferRequest
    from handlers.routing.types import Local
    from handlers.serving.calls import Answer
    from handlers.serving.holder import ReleaseHolder
    from handlers.serving.ledger import Ledger
    from handlers.serving.paths import CpuPath, GpuPath
    from handlers.serving.release import Served
    from handlers.settings import Settings


MAX_PREDICTED_MS = 28_000.0
"""API Gateway gives up after 30 s; a batch that takes longer is refused before it is begun."""


PRIORITIES = tuple(priority.name.lower() for priority in Priority)


class Handled(NamedTuple):
    """What the telemetry of one inference needs. Times in ms from the arrival in the handler."""

    request: Request
    decision: Decision
    answer: Answer
    caller: str
    release: str
    actual_ms: float
    decide_ms: float
    cost_usd: float
    cold: bool
    confidence: float


class Shared(Protocol):
    """The shared stores behind a service, all of them optional; `adapters.upkeep` implements it."""

    published: Snapshot | None

    def after(self, now: float, drain: Callable[[], str]) -> None:
        """An answer is ready: start whatever upkeep is due, without waiting for it."""
        ...

    def shadow(self, served: Served, job: Job, answer: Answer) -> None:
        """Repeat the job on the GPU off the caller's time."""
        ...


class Ports(NamedTuple):
    """What a service does its work with: `clock` is monotonic s, `wall` epoch s, `draw` uniform in [0, 1).

    `observe` writes down a request, with what the caller was told of it.
    """

    cpu: Callable[[Served], CpuPath]
    gpu: Callable[[Served], GpuPath | None]
    shared: Shared
    ledger: Ledger
    pool: Executor
    clock: Callable[[], float]
    wall: Callable[[], float]
    draw: Callable[[], float]
    observe: Callable[[Handled, Mapping[str, Any]], None]


class Open(NamedTuple):
    """What is made once for a release: its default snapshot and its paths."""

    served: Served
    default: Snapshot
    paths: Paths
    output_names: tuple[str, ...]


class Service:
    """Serves one model; every method that answers raises TurnoutError for what `statuses` maps."""

    def __init__(self, settings: Settings, holder: ReleaseHolder, ports: Ports) -> None:
        self.settings = settings
        self.holder = holder
        self._ports = ports
        self._observer = Observer(Knobs.parse(settings.routing).breaker, front=settings.role == "front")
        self._economics = Economics.parse(settings.economics)
        self._constraints = ConstraintReader(settings.latency_slo_ms, settings.attainment)
        self._open: Open | None = None
        self._answered = 0
        self._usual_usd = 0.0

    def prepare(self) -> Paths:
        """Make what the first request would make. Raises ReleaseError when there is no release."""
        return self._opened().paths

    def now(self) -> float:
        """Seconds on the service's clock."""
        return self._ports.clock()

    def charge_shadow(self, began: float, payload_bytes: int) -> float:
        """Count a shadow begun at clock second `began`, apart from the requests; returns its cost in USD.

        It pays this function and the data; the endpoint only where its capacity is idle, so nothing more.
        """
        economics, ms = self._economics, (self._ports.clock() - began) * 1000.0
        cost_usd = economics.lambda_usd(ms, self.settings.memory_mb) + economics.lambda_request
        cost_usd += payload_bytes * 1e-9 * economics.data_gb
        observer = self._observer
        observer.report.counts["shadow_usd"] += cost_usd
        self._ports.shared.after(self._ports.wall(), lambda: observer.drain().to_json())
        return cost_usd

    def route(self, http: HttpRequest) -> HttpResponse:
        """`/v2/models/{model}/route`: the decision for this request, not carried out."""
        opened, arrived = self._opened(), self._ports.clock()
        items, parameters = 1, {}
        if http.body:
            parsed = parse(http, opened)
            items, parameters = parsed.items, dict(parsed.parameters)
        request = self._request(parameters, http, items, len(http.body), arrived)
        now = self._ports.wall()
        snapshot = usable(self._ports.shared.published, opened.default, now)
        decision = decide(request, snapshot, self._local(snapshot, http.caller, now), now)
        return json_response(explain.decision_document(decision, snapshot, self.settings.model, now))

    def infer(self, http: HttpRequest) -> HttpResponse:
        """`POST /v2/models/{model}/infer`."""
        ports, observer = self._ports, self._observer
        clock = ports.clock
        arrived, now = clock(), ports.wall()
        opened = self._opened()
        served = opened.served
        parsed = parse(http, opened)
        arrays = served.preprocess([tensor.array for tensor in parsed.inputs])
        request = self._request(parsed.parameters, http, parsed.items, len(http.body), arrived)
        snapshot = usable(ports.shared.published, opened.default, now)
        local = self._local(snapshot, http.caller, now)
        began = clock()
        decision = decide(request, snapshot, local, now)
        decide_ms = (clock() - began) * 1000.0
        if not decision.admitted:
            raise refusal(decision)
        if MAX_PREDICTED_MS < decision.predicted_ms < inf:
            raise _too_large(decision, parsed.items)
        observer.started(decision.path, now)
        job = Job(parsed.inputs, arrays, parsed.items, arrived, PRIORITIES[request.priority])
        answer = race.run(job, decision, opened.paths)
        actual_ms = (clock() - arrived) * 1000.0
        cost_usd = explain.cost_usd(answer, decision, actual_ms, self._economics, self.settings.memory_mb)
        handled = Handled(
            request,
            decision,
            answer,
            http.caller,
            served.manifest.release,
            actual_ms,
            decide_ms,
            cost_usd,
            self._answered == 0,
            answer.confidence,
        )
        said = explain.parameters(handled)
        response = explain.infer_response(parsed, served.manifest, handled, said)
        self._learn(handled, said, snapshot)
        if decision.shadow and opened.paths.gpu is not None:
            ports.shared.shadow(served, job, answer)
        return response

    def _learn(self, handled: Handled, said: Mapping[str, Any], snapshot: Snapshot) -> None:
        """Everything that the answer teaches; nothing here waits for a network."""
        answer, observer, now = handled.answer, self._observer, self._ports.wall()
        for call in answer.calls:
            observer.called(call.path, call.items, call.ms, now, snapshot, ok=call.ok)
        if handled.cold and not observer.front:
            observer.report.counts["cold"] += 1
        self._answered += 1
        if handled.caller != FRONT:  # or else the front counts and pays
            observer.finished(
                handled.decision,
                handled.actual_ms,
                handled.cost_usd,
                now,
                degraded=answer.degraded is not None,
                escalated=answer.escalated_items,
                missed=answer.missed_items,
            )
            self._usual_usd = max(handled.cost_usd, 0.9 * self._usual_usd)
            self._ports.ledger.charge(handled.caller, handled.cost_usd)
            self._ports.observe(handled, said)
        self._ports.shared.after(now, lambda: observer.drain().to_json())

    def _local(self, snapshot: Snapshot, caller: str, now: float) -> Local:
        views = () if caller == FRONT else self._ports.ledger.views(caller, self._usual_usd, now)
        return self._observer.local(snapshot, now, budgets=views)

    def _request(
        self, parameters: Mapping[str, Any], http: HttpRequest, items: int, payload_bytes: int, arrived: float
    ) -> Request:
        asked = self._constraints.read(parameters, http.headers)
        elapsed_ms = (self._ports.clock() - arrived) * 1000.0
        return Request(*asked, items, payload_bytes, elapsed_ms, self._ports.draw())

    def _opened(self) -> Open:
        served = self.holder.current()
        opened = self._open
        if opened is None or opened.served is not served:
            ports, manifest = self._ports, served.manifest
            paths = Paths(
                ports.cpu(served),
                ports.gpu(served),
                ports.pool,
                ports.clock,
                self._observer.take_token,
                manifest.task,
                manifest.gpu.temperature if manifest.gpu is not None else 1.0,
            )
            default = default_snapshot(served, self.settings, self._economics)
            names = tuple(spec.name for spec in manifest.outputs)
            opened = self._open = Open(served, default, paths, names)
        return opened


def parse(http: HttpRequest, opened: Open) -> InferRequest:
    """Decode a request against a release. Raises InvalidInput."""
    length = http.headers.get(HEADER_LENGTH)
    return parse_request(http.body, length, opened.served.manifest.inputs, opened.output_names)


def _too_large(decision: Decision, items: int) -> PayloadTooLarge:
    allowed = f"a batch that {decision.path} answers in {MAX_PREDICTED_MS / 1000.0:g} s; this one takes"
    return PayloadTooLarge("items", items, f"{allowed} {decision.predicted_ms / 1000.0:.0f} s")


def refusal(decision: Decision) -> Overloaded | BudgetExhausted:
    """The error for a decision that does not admit its request."""
    retry_s = decision.retry_after_s or 1.0
    if decision.reason is Reason.BUDGET_EXHAUSTED:
        return BudgetExhausted(f"the budget is spent; it renews in {retry_s:.0f} s", retry_s)
    return Overloaded(
        f"no path answers within {decision.deadline_ms:g} ms (on_miss=refuse); the best, {decision.path},"
        f" takes {decision.predicted_ms:.1f} ms",
        retry_s,
    )
