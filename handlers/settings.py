"""Environment → typed settings, read once at init; a wrong value stops the function with its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from handlers.errors import InvalidConfig
from handlers.routing.profile import MB_PER_VCPU

Role = Literal["colocated", "front", "model"]
ROLES: tuple[Role, ...] = get_args(Role)
POLICIES = ("turnout", "cpu_only", "gpu_only", "static_split", "latency_only")
Choice = TypeVar("Choice", bound=str)


class Settings(NamedTuple):
    """What one function is: its model, its role, its objective and where its shared state is.

    `endpoint` empty: no GPU path. `table` empty: no shared store. `economics` and `budget` are the raw JSON
    objects that `routing` parses. Times in ms, sizes in MB.
    """

    stage: str
    model: str
    bucket: str
    pointer: str
    table: str
    endpoint: str
    inference_component: str
    role: Role
    model_function: str
    policy: str
    latency_slo_ms: float
    attainment: float
    economics: Mapping[str, Any]
    budget: Mapping[str, Any]
    routing: Mapping[str, Any]
    region: str
    function_name: str
    alias: str
    memory_mb: int
    log_share: float

    @property
    def threads(self) -> int:
        """Inference threads: whole vCPUs only, because a thread without a core of its own costs time."""
        return max(1, self.memory_mb // MB_PER_VCPU)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the `TURNOUT_…` variables. Raises InvalidConfig naming variable, value and what is allowed."""
        role = _choice(environ, "TURNOUT_ROLE", ROLES, "colocated")
        front = role == "front"
        return cls(
            stage=_text(environ, "TURNOUT_STAGE", "local"),
            model=_text(environ, "TURNOUT_MODEL"),
            bucket=_text(environ, "TURNOUT_BUCKET"),
            pointer=_text(environ, "TURNOUT_POINTER"),
            table=environ.get("TURNOUT_TABLE", ""),
            endpoint=environ.get("TURNOUT_ENDPOINT", ""),
            inference_component=environ.get("TURNOUT_INFERENCE_COMPONENT", ""),
            role=role,
            model_function=_text(environ, "TURNOUT_MODEL_FUNCTION", None if front else ""),
            policy=_choice(environ, "TURNOUT_POLICY", POLICIES, "turnout"),
            latency_slo_ms=_number(environ, "TURNOUT_LATENCY_SLO_MS", 0.0, 30_000.0),
            attainment=_number(environ, "TURNOUT_ATTAINMENT", 0.0, 1.0, "0.99", open_end=True),
            economics=_object(environ, "TURNOUT_ECONOMICS"),
            budget=_object(environ, "TURNOUT_BUDGET", "{}"),
            routing=_object(environ, "TURNOUT_ROUTING", "{}"),
            region=_text(environ, "AWS_REGION", environ.get("AWS_DEFAULT_REGION", "us-east-1")),
            function_name=_text(environ, "AWS_LAMBDA_FUNCTION_NAME", "turnout"),
            alias=_text(environ, "TURNOUT_ALIAS", "$LATEST"),
            log_share=_number(environ, "TURNOUT_LOG_SHARE", -1e-9, 1.0, "1"),
            memory_mb=int(
                _number(environ, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 0.0, 65_536.0, str(MB_PER_VCPU))
            ),
        )


def _text(environ: Mapping[str, str], name: str, default: str | None = None) -> str:
    value = environ.get(name) or default
    if value is None:
        raise InvalidConfig(name, environ.get(name), "a non-empty value")
    return value


def _choice(environ: Mapping[str, str], name: str, allowed: tuple[Choice, ...], default: Choice) -> Choice:
    value = environ.get(name) or default
    for option in allowed:
        if option == value:
            return option
    raise InvalidConfig(name, value, ", ".join(allowed))


def _number(
    environ: Mapping[str, str],
    name: str,
    low: float,
    high: float,
    default: str | None = None,
    *,
    open_end: bool = False,
) -> float:
    raw = environ.get(name) or default
    allowed = f"a number above {low:g} and {'below' if open_end else 'at most'} {high:g}"
    try:
        value = float(raw) if raw is not None else float("nan")
    except ValueError as error:
        raise InvalidConfig(name, raw, allowed) from error
    if not low < value <= high or (open_end and value == high):
        raise InvalidConfig(name, raw, allowed)
    return value


def _object(environ: Mapping[str, str], name: str, default: str | None = None) -> Mapping[str, Any]:
    raw = environ.get(name) or default
    try:
        value = json.loads(raw) if raw is not None else None
    except ValueError as error:
        raise InvalidConfig(name, raw, "a JSON object") from error
    if not isinstance(value, dict):
        raise InvalidConfig(name, raw, "a JSON object")
    return value
