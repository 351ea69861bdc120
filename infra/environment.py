"""What the functions are told, by environment variable. Pure: settings in, strings out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handlers.errors import BuildError, InvalidConfig
from handlers.routing.profile import MB_PER_VCPU
from infra.config import Model
from infra.deployment import Deployment
from infra.names import ALIAS, VARIANT, route_variable
from model_build.memory import MemorySize, choose

DEFAULT_MEMORY_MB = MB_PER_VCPU


def current_profile(name: str, releases: Path | None = None) -> dict[str, Any] | None:
    """The profile of the model's current release in `releases` ($TURNOUT_RELEASES_DIR, else ./releases)."""
    folder = (releases or Path(os.environ.get("TURNOUT_RELEASES_DIR", "releases"))) / name
    if not (folder / "current").exists():
        return None
    manifest = folder / (folder / "current").read_text().strip() / "manifest.json"
    profile: dict[str, Any] = json.loads(manifest.read_text())["profile"]
    return profile


def memory_mb(name: str, model: Model, releases: Path | None = None) -> int:
    """The function's memory in MB: what turnout.toml says or, under `auto`, the cheapest that the release
    measured to keep the objective of turnout.toml.

    Without a release of `name` in `releases` it is one vCPU's. Raises InvalidConfig when no size keeps
    the objective.
    """
    if model.memory_mb != "auto":
        return model.memory_mb
    profile = current_profile(name, releases)
    if profile is None:
        return DEFAULT_MEMORY_MB
    table = profile["cpu"].get("memory_table")
    try:
        rows = [MemorySize(**row) for row in table]
    except TypeError as error:
        allowed = f"the table that `turnout build {name}` writes"
        raise InvalidConfig(f"{name}: profile.cpu.memory_table", table, allowed) from error
    try:
        return choose(rows, model.latency_slo_ms, model.attainment)[0]
    except BuildError as error:
        raise InvalidConfig(f"models.{name}.memory_mb", "auto", f"whole MB ({error})") from error


def memory_notice(name: str, model: Model, releases: Path | None = None) -> str | None:
    """What is to be said when `auto` finds no release to ask, and None when it does."""
    if model.memory_mb != "auto" or current_profile(name, releases) is not None:
        return None
    return (
        f'models.{name}.memory_mb is "auto" and there is no release of {name} here: its function gets '
        f"{DEFAULT_MEMORY_MB} MB (one vCPU) until `turnout build {name}` has measured it"
    )


def economics(deployment: Deployment, name: str) -> dict[str, Any]:
    """The prices that decide for a model, in USD, and the memory sizes that they apply to, in MB."""
    model, prices = deployment.models[name], deployment.prices
    gpu = model.gpu
    return {
        "lambda_gb_s": prices.usd(f"lambda.{deployment.target.architecture}.gb_s"),
        "lambda_request": prices.usd("lambda.request"),
        "front_door_request": prices.usd(f"apigateway.{deployment.settings.api}.request"),
        "gpu_hour": prices.instance(gpu.instance_type).usd_per_hour if gpu else 0.0,
        "data_gb": prices.usd("sagemaker.data.gb") if gpu else 0.0,
        "missed_escalation_usd": gpu.missed_escalation_usd if gpu else 0.0,
        "front_memory_mb": model.front_memory_mb,
        "model_memory_mb": memory_mb(name, model),
    }


def function_environment(deployment: Deployment, name: str, role: str, bucket: str) -> dict[str, str]:
    """The environment of a model's function; `role` is colocated, model or front."""
    model, names = deployment.models[name], deployment.names
    has_endpoint = model.gpu is not None and role != "model"
    component = has_endpoint and model.gpu is not None and model.gpu.kind == "inference_component"
    environment = {
        "TURNOUT_STAGE": deployment.stage,
        "TURNOUT_MODEL": name,
        "TURNOUT_BUCKET": bucket,
        "TURNOUT_POINTER": names.pointer(name),
        "TURNOUT_TABLE": names.table,
        "TURNOUT_ENDPOINT": names.endpoint(name) if has_endpoint else "",
        "TURNOUT_INFERENCE_COMPONENT": names.endpoint(name) if component else "",
        "TURNOUT_ROLE": role,
        "TURNOUT_POLICY": model.policy,
        "TURNOUT_LATENCY_SLO_MS": f"{model.latency_slo_ms:g}",
        "TURNOUT_ATTAINMENT": f"{model.attainment:g}",
        "TURNOUT_ECONOMICS": _compact(economics(deployment, name)),
        "TURNOUT_ALIAS": ALIAS,
        "TURNOUT_LOG_SHARE": f"{deployment.settings.log_share:g}",
        "TURNOUT_MODEL_FUNCTION": f"{names.function(name)}:{ALIAS}" if role == "front" else "",
        **_tools(f"turnout-{name}"),
    }
    if model.routing.model_fields_set:
        environment["TURNOUT_ROUTING"] = _compact(model.routing.model_dump())
    if model.budget:
        environment["TURNOUT_BUDGET"] = _compact(model.budget.model_dump())
    return environment


def control_environment(deployment: Deployment, apis: Mapping[str, str], bucket: str) -> dict[str, str]:
    """The environment of the control function; `apis` has `api_kind`, `api_id` and `api_stage`."""
    return {
        "TURNOUT_STAGE": deployment.stage,
        "TURNOUT_TABLE": deployment.names.table,
        "TURNOUT_BUCKET": bucket,
        "TURNOUT_KILL_SWITCH": deployment.names.kill_switch,
        "TURNOUT_MODELS": _compact([{**_controlled(deployment, name), **apis} for name in deployment.models]),
        **_tools("turnout-control"),
    }


def _controlled(deployment: Deployment, name: str) -> dict[str, Any]:
    model, names, gpu = deployment.models[name], deployment.names, deployment.models[name].gpu
    component = gpu is not None and gpu.kind == "inference_component"
    return {
        "model": name,
        "pointer": names.pointer(name),
        "endpoint": names.endpoint(name) if gpu else "",
        "inference_component": names.endpoint(name) if component else "",
        "variant": VARIANT if gpu else "",
        "topology": model.topology,
        "route_variable": route_variable(name),
        "function": f"{names.function(name)}:{ALIAS}",
        "front": f"{names.front(name)}:{ALIAS}" if model.topology != "colocated" else "",
        "economics": economics(deployment, name),
        "policy": model.policy,
        "latency_slo_ms": model.latency_slo_ms,
        "attainment": model.attainment,
        "min_instances": gpu.min_instances if gpu else 0,
        "max_instances": gpu.max_instances if gpu else 0,
        "scaling": gpu.scaling if gpu else "economic",
        "budget": model.budget.model_dump() if model.budget else None,
        "routing": model.routing.model_dump(),
    }


def _tools(service: str) -> dict[str, str]:
    # One BLAS thread: numpy's import alone takes twice as long with a pool of them.
    return {
        "POWERTOOLS_SERVICE_NAME": service,
        "POWERTOOLS_METRICS_NAMESPACE": "turnout",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
