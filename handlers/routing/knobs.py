"""What a model's owner may turn, from `[models.NAME.routing]` of turnout.toml (`TURNOUT_ROUTING`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handlers.errors import InvalidConfig

from .breaker import BreakerSettings


@dataclass(frozen=True, slots=True)
class Knobs:
    """Shares of the requests, and when the breakers open and close; the defaults serve most.

    `explore_share` try the path that would not be chosen, `shadow_share` of the CPU's answers are repeated on
    the GPU afterwards, `static_gpu_share` is what the policy `static_split` sends to the GPU. The breaker's
    are those of `BreakerSettings`, times in s.
    """

    explore_share: float = 0.01
    shadow_share: float = 0.0
    static_gpu_share: float = 0.5
    breaker_window_s: float = 30.0
    breaker_failure_share: float = 0.5
    breaker_min_calls: float = 2.5
    breaker_cooldown_s: float = 5.0
    breaker_cooldown_max_s: float = 60.0
    breaker_probes: int = 2

    @property
    def breaker(self) -> BreakerSettings:
        """The settings of both paths' breakers."""
        return BreakerSettings(
            window_s=self.breaker_window_s,
            min_calls=self.breaker_min_calls,
            failure_share=self.breaker_failure_share,
            open_s=self.breaker_cooldown_s,
            open_max_s=self.breaker_cooldown_max_s,
            probes=self.breaker_probes,
        )

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Knobs:
        """Read a JSON object; raises `InvalidConfig` that names the key, its value and what is allowed."""
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name not in _RANGES:
                raise InvalidConfig(f"TURNOUT_ROUTING.{name}", value, ", ".join(_RANGES))
            low, high = _RANGES[name]
            number = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
            if not number or (name == "breaker_probes" and value != int(value)):
                what = "a whole number" if name == "breaker_probes" else "a number"
                raise InvalidConfig(f"TURNOUT_ROUTING.{name}", value, f"{what} from {low:g} to {high:g}")
            values[name] = int(value) if name == "breaker_probes" else float(value)
        knobs = cls(**values)
        if knobs.breaker_cooldown_max_s < knobs.breaker_cooldown_s:
            least = f"at least breaker_cooldown_s ({knobs.breaker_cooldown_s:g})"
            raise InvalidConfig("TURNOUT_ROUTING.breaker_cooldown_max_s", knobs.breaker_cooldown_max_s, least)
        return knobs


_RANGES: dict[str, tuple[float, float]] = {
    "explore_share": (0.0, 0.1),
    "shadow_share": (0.0, 1.0),
    "static_gpu_share": (0.0, 1.0),
    "breaker_window_s": (1.0, 3600.0),
    "breaker_failure_share": (0.01, 1.0),
    "breaker_min_calls": (1.0, 1000.0),
    "breaker_cooldown_s": (0.1, 3600.0),
    "breaker_cooldown_max_s": (0.1, 3600.0),
    "breaker_probes": (1.0, 100.0),
}
DEFAULT_KNOBS = Knobs()
