"""What a caller may ask of a request, in its `parameters` or as `x-turnout-…` headers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from handlers.errors import InvalidInput
from handlers.routing.types import Constraints, OnMiss, Path, Priority, Quality, Request

MAX_SLO_MS = 30_000.0
"""API Gateway answers for the function after 30 s, so no objective can be longer."""

PROTOCOL_PARAMETERS = ("binary_data_output",)
HEADER_PREFIX = "x-turnout-"

MAX_KNOWN, MAX_KEY = 256, 256
"""How many sets of parameters are remembered, and how long one may be in JSON, bytes."""


def _number(allowed: str, check: Callable[[float], bool]) -> Callable[[str, object], float]:
    def parse(field: str, raw: object) -> float:
        try:
            value = (
                float(raw) if isinstance(raw, str | int | float) and not isinstance(raw, bool) else math.nan
            )
        except (ValueError, OverflowError):
            value = math.nan
        if not math.isfinite(value) or not check(value):
            raise InvalidInput(field, raw, allowed)
        return value

    return parse


def _member(options: Mapping[str, Any]) -> Callable[[str, object], Any]:
    def parse(field: str, raw: object) -> Any:
        if not isinstance(raw, str) or raw not in options:
            raise InvalidInput(field, raw, ", ".join(options))
        return options[raw]

    return parse


PARSERS: dict[str, Callable[[str, object], Any]] = {
    "latency_slo_ms": _number(f"ms above 0, at most {MAX_SLO_MS:g}", lambda value: 0 < value <= MAX_SLO_MS),
    "attainment": _number("a share above 0 and below 1", lambda value: 0 < value < 1),
    "max_cost_usd": _number("USD above 0", lambda value: value > 0),
    "min_confidence": _number("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "quality": _member({str(option): option for option in Quality}),
    "path": _member({str(option): option for option in Path}),
    "on_miss": _member({str(option): option for option in OnMiss}),
    "priority": _member({option.name.lower(): option for option in Priority}),
}


class ConstraintReader:
    """Reads what requests ask for, once for all those that ask for the same.

    `latency_slo_ms` and `attainment` hold for a request that names none.
    """

    def __init__(self, latency_slo_ms: float, attainment: float) -> None:
        self._default = {"latency_slo_ms": latency_slo_ms, "attainment": attainment}
        self._known: dict[bytes, Constraints] = {}

    def read(self, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> Constraints:
        """Raises InvalidInput as `parse_constraints` does."""
        try:
            key = orjson.dumps(parameters)
        except orjson.JSONEncodeError:  # for one, text with half a surrogate pair
            return self._parsed(parameters, headers)
        if HEADER_PREFIX in "\n".join(headers):
            return self._parsed(parameters, headers)
        found = self._known.get(key)
        if found is None:
            found = self._parsed(parameters, headers)
            if len(key) <= MAX_KEY:
                if len(self._known) == MAX_KNOWN:
                    self._known.clear()  # of what nobody may ask for any more
                self._known[key] = found
        return found

    def _parsed(self, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> Constraints:
        given = self._default | parse_constraints(parameters, headers)
        return Request(**given).checked().constraints


def parse_constraints(parameters: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The constraints that were given, as keyword arguments of `routing.types.Request`.

    Raises InvalidInput for an unknown parameter or header, a value that is not allowed, and a header that
    contradicts the parameter of the same name.
    """
    given: dict[str, Any] = {}
    for name, raw in parameters.items():
        if name in PROTOCOL_PARAMETERS:
            continue
        if name not in PARSERS:
            allowed = f"parameters {', '.join((*PARSERS, *PROTOCOL_PARAMETERS))}"
            raise InvalidInput(f"parameters.{name}", raw, allowed)
        given[name] = PARSERS[name](f"parameters.{name}", raw)
    for header, text in headers.items():
        if not header.startswith(HEADER_PREFIX):
            continue
        name = header.removeprefix(HEADER_PREFIX).replace("-", "_")
        if name not in PARSERS:
            allowed = ", ".join(HEADER_PREFIX + known.replace("_", "-") for known in PARSERS)
            raise InvalidInput(header, text, f"headers {allowed}")
        value = PARSERS[name](header, text)
        if given.setdefault(name, value) != value:
            raise InvalidInput(header, text, f"{parameters[name]!r}, which parameters.{name} says")
    return given
