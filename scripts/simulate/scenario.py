"""What is planned for: a release's profile, the prices that apply, the objective."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handlers.errors import InvalidInput
from handlers.routing.capacity_types import MAX_INSTANCES
from handlers.routing.economics import Economics
from handlers.routing.profile import Profile
from handlers.routing.snapshot import Cascade, cascade_of


@dataclass(frozen=True, slots=True)
class SnapStart:
    """Lambda SnapStart: what a restore takes and costs, and what the kept snapshot costs.

    The prices are the price list's. `restore_ms` is an assumption that was not measured.
    """

    restore_ms: float = 400.0
    usd_per_gb_restored: float = 0.0001397998
    usd_per_gb_s_cached: float = 0.0000015046


@dataclass(frozen=True, slots=True)
class Cloud:
    """How Lambda and the GPU endpoint behave beyond the profile.

    `keep_alive_s`: an idle sandbox lives so long. `concurrency`: most sandboxes at once; `burst_per_10s`:
    most new ones in ten seconds. `startup_spread`: a start takes startup_s × (1 ± this), evenly.
    `failure_share` of GPU calls fail; `instance_life_h` is the mean life of an instance (0: for ever).
    `front_init_ms`, a front's cold start, is an assumption: what the package's imports take without a model.
    """

    keep_alive_s: float = 600.0
    concurrency: int = 1000
    burst_per_10s: int = 1000
    startup_spread: float = 0.1
    failure_share: float = 0.0
    instance_life_h: float = 0.0
    snap_start: SnapStart | None = None
    front_init_ms: float = 350.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One model, its prices and its objective; money in USD, times in ms unless named otherwise.

    `recipe` and `instance_type` are for the configuration to paste, where they are known.
    """

    profile: Profile
    economics: Economics
    latency_slo_ms: float
    attainment: float
    cascade: Cascade | None = None
    max_instances: int = MAX_INSTANCES
    cloud: Cloud = Cloud()
    recipe: str = ""
    instance_type: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.latency_slo_ms < float("inf"):
            raise InvalidInput("--slo-ms", self.latency_slo_ms, "a finite number of ms above 0")
        if not 0.0 < self.attainment < 1.0:
            raise InvalidInput("attainment", self.attainment, "a share between 0 and 1, both excluded")

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU path to plan with."""
        return self.profile.gpu is not None and self.economics.gpu_hour > 0.0

    @property
    def escalation_share(self) -> float:
        """Share of the requests whose CPU answer is below the threshold."""
        return self.cascade.escalation_share if self.cascade else self.profile.escalation_share

    @property
    def start_usd(self) -> float:
        """What one start of an instance costs, USD: its rent until it is ready, where that is billed."""
        gpu = self.profile.gpu
        if gpu is None or not gpu.startup_billed:
            return 0.0
        return self.economics.gpu_second_usd() * gpu.startup_s

    def priced(self, **changes: float) -> Scenario:
        """The same with other prices."""
        return replace(self, economics=replace(self.economics, **changes))  # type: ignore[arg-type]


def read_profile(path: Path) -> Scenario:
    """Read a reference profile (a JSON file); raises `InvalidInput` naming the field that is wrong."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InvalidInput("--profile", str(path), "a file that exists") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("--profile", str(path), f"a JSON file ({error})") from error
    if not isinstance(raw, dict):
        raise InvalidInput("--profile", str(path), "a JSON object")
    return from_json(raw)


def from_json(raw: Mapping[str, Any]) -> Scenario:
    """A scenario from a profile that carries its prices and objective."""
    profile = Profile.parse(raw)
    prices = raw.get("prices")
    if not isinstance(prices, Mapping):
        raise InvalidInput("prices", prices, "an object with lambda_gb_s, lambda_request, front_door_request")
    gpu = raw.get("gpu") or {}
    router = raw.get("router") or {}
    economics = Economics.parse(
        {
            **prices,
            "model_memory_mb": profile.cpu.memory_mb,
            "front_memory_mb": router.get("memory_mb", 256),
            "gpu_hour": gpu.get("usd_per_hour", 0.0),
            "missed_escalation_usd": raw.get("missed_escalation_usd", 0.0),
        }
    )
    for name in ("latency_slo_ms", "attainment"):
        value = raw.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(name, value, "a number")
    return Scenario(
        profile=profile,
        economics=economics,
        latency_slo_ms=float(raw["latency_slo_ms"]),
        attainment=float(raw["attainment"]),
        cascade=cascade_of(raw.get("cascade")),
    )
