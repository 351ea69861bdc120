"""What things cost: the prices of the stage and what a request pays on each path.

All prices come from the stage's table (`TURNOUT_ECONOMICS`); there is no literal price here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from handlers.errors import InvalidInput

FRONT_DOOR_UNIT = 512 * 1024
"""Bytes that an HTTP API meters as one request (AWS, API Gateway pricing)."""


@dataclass(frozen=True, slots=True)
class Economics:
    """Prices in USD and the sizes that they apply to.

    `lambda_gb_s` per GB and second, `lambda_request` and `front_door_request` per request, `gpu_hour` per
    instance-hour, `data_gb` per GB sent to and from the endpoint, `missed_escalation_usd` the stated value
    of an answer that needed the heavy model and did not get it. The field names are the JSON keys.
    """

    lambda_gb_s: float
    lambda_request: float
    front_door_request: float
    model_memory_mb: int
    front_memory_mb: int = 256
    gpu_hour: float = 0.0
    data_gb: float = 0.0
    missed_escalation_usd: float = 0.0

    def __post_init__(self) -> None:
        for name in _PRICES:
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0.0):
                raise InvalidInput(f"economics.{name}", value, "a finite amount in USD, 0 or more")
        for name in ("model_memory_mb", "front_memory_mb"):
            value = getattr(self, name)
            if not 128 <= value <= 10240:
                raise InvalidInput(f"economics.{name}", value, "128 to 10240 MB")

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Economics:
        """Read a JSON object; keys that are not known are left alone, other readers may need them."""
        values: dict[str, Any] = {}
        for name in (*_PRICES, "model_memory_mb", "front_memory_mb"):
            if name in raw:
                value = raw[name]
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise InvalidInput(f"economics.{name}", value, "a number")
                values[name] = value
        for name in ("lambda_gb_s", "lambda_request", "front_door_request", "model_memory_mb"):
            if name not in values:
                raise InvalidInput(f"economics.{name}", None, "a number: the key is missing")
        return cls(**values)

    def front_door_usd(self, payload_bytes: int) -> float:
        """Return the front door's price in USD for one request, metered in units of `FRONT_DOOR_UNIT`."""
        return self.front_door_request * (1 + max(payload_bytes - 1, 0) // FRONT_DOOR_UNIT)

    def lambda_usd(self, ms: float, memory_mb: float) -> float:
        """Return the duration charge in USD of `ms` in a function of `memory_mb`."""
        return ms / 1000.0 * (memory_mb / 1024.0) * self.lambda_gb_s

    def gpu_second_usd(self) -> float:
        """Return the price in USD of one second of one instance."""
        return self.gpu_hour / 3600.0


_PRICES = (
    "lambda_gb_s",
    "lambda_request",
    "front_door_request",
    "gpu_hour",
    "data_gb",
    "missed_escalation_usd",
)
