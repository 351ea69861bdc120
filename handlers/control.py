"""The control loop: once a minute, one writer learns from the reports, sets capacity, publishes snapshots.

While instances start, a run goes on after its round: it looks for them every `WATCH_S` and publishes the
moment one is there, since it is paid for from its order and used from the next snapshot on.

All decisions are made by `routing.controller.advance`; here things are only fetched and carried out. It may
die at any point: memory is stored before anything is done, by a conditional write, so of two loops only one
acts, and whatever was not done is decided again a minute later. After an absence it goes through what was
reported meanwhile, up to `report.MAX_MINUTES`. Routers need none of it to go on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from handlers.adapters.control_ports import Ports, aws_ports
from handlers.adapters.endpoint_metrics import EndpointMetrics
from handlers.adapters.gpu_fleet import GpuFleet
from handlers.errors import InvalidInput, PointerMissing, ReleaseTampered, TurnoutError
from handlers.routing.codec import to_json
from handlers.routing.control_codec import state_from_json, state_to_json
from handlers.routing.controlled import Controlled, read_models
from handlers.routing.controller import ControlState, Endpoint, Step, advance
from handlers.routing.profile import Profile
from handlers.routing.report import Report, merged
from handlers.routing.route import Route
from handlers.routing.snapshot import Cascade, Topology, cascade_of
from handlers.serving.manifest import parse as parse_manifest
from handlers.serving.release import ReleaseSource, parse_pointer

LEASE_S = 55.0
WATCH_S = 5.0
WATCHED_S = 40.0
"""How long after its begin a run still watches: it ends before its function's time does."""
NAMESPACE = "turnout"
logger = Logger()


def run(
    models: tuple[Controlled, ...], ports: Ports, owner: str, now: float, *, dry_run: bool
) -> dict[str, Any]:
    """One round over all models. A model that fails is logged and does not stop the others."""
    if not ports.enabled():
        logger.warning("the kill switch is set: nothing is changed")
        return {"skipped": "kill_switch"}
    if not dry_run and not ports.table.lease(owner, now, LEASE_S):
        logger.info("another control loop holds the lease")
        return {"skipped": "lease"}
    return _round(models, ports, now, dry_run=dry_run)


def _round(models: tuple[Controlled, ...], ports: Ports, now: float, *, dry_run: bool) -> dict[str, Any]:
    done: dict[str, Any] = {}
    failed: list[str] = []
    for controlled in models:
        try:
            done[controlled.model] = _control(controlled, ports, now, dry_run=dry_run)
        except PointerMissing as error:
            done[controlled.model] = {"skipped": str(error)}
        except Exception:
            logger.exception("the step failed", extra={"model": controlled.model})
            failed.append(controlled.model)
    if failed:
        raise TurnoutError(f"the control step failed for {', '.join(failed)}; the log says why")
    return done


def watch(
    models: tuple[Controlled, ...],
    ports: Ports,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    until: float,
) -> None:
    """Publish anew as soon as an instance that was starting is ready, while any is and it is not `until`.

    `clock` gives epoch s. A second round in a minute only publishes (`controller`); one in the next
    minute is that minute's, and the scheduled one the second.
    """
    starting = _starting(models, ports)
    while starting and clock() + WATCH_S <= until:
        sleep(WATCH_S)
        before, starting = starting, _starting(models, ports)
        ready = tuple(m for m in models if starting.get(m.model, 0) < before.get(m.model, 0))
        if ready and ports.enabled():
            _round(ready, ports, clock(), dry_run=False)


def _starting(models: tuple[Controlled, ...], ports: Ports) -> dict[str, int]:
    """Instances on their way, by the models that have any."""
    found = {}
    for controlled in models:
        fleet = ports.fleet(controlled)
        size = fleet.size() if fleet is not None else None
        if size is not None and size.starting:
            found[controlled.model] = size.starting
    return found


def _control(controlled: Controlled, ports: Ports, now: float, *, dry_run: bool) -> dict[str, Any]:
    release, measured, cascade = _release(ports.source(controlled))
    profile = measured.at(controlled.economics.model_memory_mb)
    state, version = _remembered(controlled, ports, now)
    bodies = ports.table.reports(controlled.model, state.minute, int(now // 60))
    report, refused = merged(bodies)
    for error in refused:
        logger.error("a report cannot be read", extra={"model": controlled.model, "reason": str(error)})
    fleet = ports.fleet(controlled)
    endpoint = _endpoint(fleet, ports.metrics(controlled, now) if fleet is not None else None)
    step = advance(controlled, release, profile, cascade, state, report, endpoint, now)
    for reason in step.reasons:
        logger.info("action", extra={"model": controlled.model, "reason_usd": reason, "dry_run": dry_run})
    if not dry_run:
        if not ports.table.remember(controlled.model, state_to_json(step.state), version + 1):
            logger.warning("another control loop was faster", extra={"model": controlled.model})
            return {"skipped": "overtaken"}
        _act(controlled, ports, fleet, step)
        snapshot = step.snapshot
        expires_at = now + snapshot.ttl_s
        ports.table.publish(controlled.model, to_json(snapshot), snapshot.version, expires_at)
        _measure(controlled, step, report, endpoint)
    return {
        "version": step.snapshot.version,
        "requests": report.counts["requests"],
        "reports_refused": len(refused),
        "ready": endpoint.ready if endpoint is not None else 0,
        "target": step.target,
        "topology": step.state.route.topology.value,
        "reasons": list(step.reasons),
    }


def _release(source: ReleaseSource) -> tuple[str, Profile, Cascade | None]:
    pointer = parse_pointer(source.pointer())
    raw = source.read(pointer.release, "manifest.json")
    manifest = parse_manifest(raw)
    if manifest.sha256 != pointer.manifest_sha256:
        raise ReleaseTampered(f"{pointer.release}/manifest.json: its sha256 is not the pointer's")
    return pointer.release, Profile.parse(manifest.profile), cascade_of(json.loads(raw).get("cascade"))


def _remembered(controlled: Controlled, ports: Ports, now: float) -> tuple[ControlState, int]:
    """The loop's memory and its version; afresh where there is none or it is corrupt, after what is out."""
    row = ports.table.memory(controlled.model)
    published = ports.table.snapshot(controlled.model)
    state = ControlState(snapshot_version=published.version if published is not None else 0)
    if row is not None:
        try:
            state = state_from_json(row.body)
        except InvalidInput as error:
            logger.error(
                "the memory is corrupt: starting afresh",
                extra={"model": controlled.model, "reason": str(error)},
            )
    route = ports.route(controlled)
    if route is not None:
        actual = Topology.SPLIT if route.target() == controlled.front else Topology.COLOCATED
        if actual is not state.route.topology:  # a deployment, or an operator, has moved it
            state = replace(state, route=Route(actual, now))
    return state, row.version if row is not None else 0


def _endpoint(fleet: GpuFleet | None, metrics: EndpointMetrics | None) -> Endpoint | None:
    size = fleet.size() if fleet is not None else None
    if size is None:
        return None
    if metrics is None:
        return Endpoint(size.ready, size.starting, steady=size.steady)
    return Endpoint(
        ready=size.ready,
        starting=size.starting,
        concurrent=metrics.concurrent,
        invocations=metrics.invocations,
        model_latency_ms=metrics.model_latency_ms,
        no_capacity=metrics.no_capacity,
        steady=size.steady,
    )


def _act(controlled: Controlled, ports: Ports, fleet: GpuFleet | None, step: Step) -> None:
    route = ports.route(controlled)
    if step.route is not None and route is not None:
        route.lead_to(controlled.front if step.route is Topology.SPLIT else controlled.function)
    if step.target is not None and fleet is not None:
        fleet.resize(step.target)


def _measure(controlled: Controlled, step: Step, report: Report, endpoint: Endpoint | None) -> None:
    counts = report.counts
    requests = counts["requests"]
    values = {
        "SpendUsd": counts["cost_usd"],
        "InstancesReady": float(endpoint.ready if endpoint is not None else 0),
        "MissedEscalations": counts["missed"],
    }
    if counts["shadow_usd"]:
        values["ShadowSpendUsd"] = counts["shadow_usd"]
    if requests:
        values["Attainment"] = counts["met"] / requests
        values["CalibrationError"] = (counts["expected_met"] - counts["met"]) / requests
    if step.state.capacity.optimum_usd > 0.0:
        values["Regret"] = step.state.spent_usd / step.state.capacity.optimum_usd
    for name, value in values.items():
        with single_metric(name=name, unit=MetricUnit.NoUnit, value=value, namespace=NAMESPACE) as metric:
            metric.add_dimension(name="model", value=controlled.model)


@cache
def _started() -> tuple[tuple[Controlled, ...], Ports]:
    return read_models(os.environ["TURNOUT_MODELS"]), aws_ports(os.environ, logger)


@logger.inject_lambda_context
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Entry: one round. An event with `dry_run: true` logs what would be done and does nothing."""
    models, ports = _started()
    began, dry_run = time.time(), event.get("dry_run") is True
    done = run(models, ports, context.aws_request_id, began, dry_run=dry_run)
    if not dry_run and "skipped" not in done:
        watch(models, ports, time.time, time.sleep, began + WATCHED_S)
    return done
