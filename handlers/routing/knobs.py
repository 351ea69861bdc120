"""What a model's owner may turn, from `[models.NAME.routing]` of turnout.toml (`TURNOUT_ROUTING`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.errors import InvalidConfig


@dataclass(frozen=True, slots=True)
class Knobs:
    """Shares of the requests, and the breaker's window in s; the defaults serve most.

    `explore_share` try the path that would not be chosen, `shadow_share` of the CPU's answers are repeated on
    the GPU afterwards, `static_gpu_share` is what the policy `static_split` sends to the GPU.
    """

    explore_share: float = 0.01
    shadow_share: float = 0.0
    static_gpu_share: float = 0.5
    breaker_window_s: float = 30.0

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Knobs:
        """Read a JSON object; raises `InvalidConfig` that names the key, its value and what is allowed."""
        values: dict[str, float] = {}
        for name, value in raw.items():
            if name not in _HIGHEST:
                raise InvalidConfig(f"TURNOUT_ROUTING.{name}", value, ", ".join(_HIGHEST))
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value <= _HIGHEST[name]
            ):
                raise InvalidConfig(
                    f"TURNOUT_ROUTING.{name}", value, f"a number from 0 to {_HIGHEST[name]:g}"
                )
            values[name] = float(value)
        if values.get("breaker_window_s") == 0.0:
            raise InvalidConfig("TURNOUT_ROUTING.breaker_window_s", 0, "a number of s above 0")
        return cls(**values)


_HIGHEST = {"explore_share": 0.1, "shadow_share": 1.0, "static_gpu_share": 1.0, "breaker_window_s": 3600.0}
DEFAULT_KNOBS = Knobs()
