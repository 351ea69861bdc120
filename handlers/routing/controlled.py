"""What the control loop is told about a model (`TURNOUT_MODELS`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.errors import InvalidConfig

from .economics import Economics
from .knobs import DEFAULT_KNOBS, Knobs
from .snapshot import POLICIES

TOPOLOGIES = ("colocated", "split", "auto")
API_KINDS = ("http", "rest")


@dataclass(frozen=True, slots=True)
class Controlled:
    """One model under control; names are those of the deployed resources, empty where there is none."""

    model: str
    pointer: str
    endpoint: str
    inference_component: str
    variant: str
    topology: str
    route_variable: str
    function: str
    front: str
    api_id: str
    api_stage: str
    policy: str
    economics: Economics
    min_instances: int
    max_instances: int
    economic: bool
    knobs: Knobs = DEFAULT_KNOBS
    api_kind: str = "http"


def read_models(raw: str) -> tuple[Controlled, ...]:
    """Read `TURNOUT_MODELS`; raises `InvalidConfig` that names the field, its value and what is allowed."""
    try:
        entries = json.loads(raw)
    except ValueError as error:
        raise InvalidConfig("TURNOUT_MODELS", raw, "a JSON list of objects") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidConfig("TURNOUT_MODELS", raw, "a JSON list of objects")
    return tuple(_read(entry) for entry in entries)


def _read(entry: Mapping[str, Any]) -> Controlled:
    topology = _choice(entry, "topology", TOPOLOGIES)
    low, high = _count(entry, "min_instances"), _count(entry, "max_instances")
    if low > high:
        raise InvalidConfig("TURNOUT_MODELS.min_instances", low, f"0 to max_instances ({high})")
    economics = entry.get("economics")
    if not isinstance(economics, dict):
        raise InvalidConfig("TURNOUT_MODELS.economics", economics, "an object")
    names = (
        *("model", "pointer", "endpoint", "inference_component", "variant", "route_variable"),
        *("function", "front", "api_id", "api_stage"),
    )
    texts = {name: str(entry.get(name, "")) for name in names}
    for name in ("model", "pointer"):
        if not texts[name]:
            raise InvalidConfig(f"TURNOUT_MODELS.{name}", "", "a name")
    return Controlled(
        **texts,
        topology=topology,
        policy=_choice(entry, "policy", POLICIES) if "policy" in entry else "turnout",
        economics=Economics.parse(economics),
        min_instances=low,
        max_instances=high,
        economic=entry.get("scaling", "economic") == "economic",
        knobs=Knobs.parse(entry.get("routing") or {}),
        api_kind=_choice(entry, "api_kind", API_KINDS) if "api_kind" in entry else "http",
    )


def _choice(entry: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise InvalidConfig(f"TURNOUT_MODELS.{name}", value, ", ".join(allowed))
    return value


def _count(entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidConfig(f"TURNOUT_MODELS.{name}", value, "a whole number, 0 or more")
    return value
