"""The profile of a release: what it costs in time on each path, as measured when it was built.

The format is that of a manifest's ``profile`` object: times in ms unless the name says seconds, quantiles as
``{"p50": …, "p95": …, "p99": …}``, ``batch_ms`` the time of one batch of that size on one instance.
Prices and the objective may be in it (the planner's reference profiles carry them) but are not read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from handlers.errors import InvalidInput

from .latency import Quantiles

MB_PER_VCPU = 1769
"""Lambda gives a function one vCPU at this memory size (AWS, "Configure Lambda function memory")."""


@dataclass(frozen=True, slots=True)
class CpuSize:
    """What the cpu variant takes in a function of `memory_mb`; see `CpuProfile`."""

    memory_mb: int
    service: Quantiles
    init_ms: float


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """The cpu variant in a function of `memory_mb`.

    `service` is the latency of one item, `batch_ms` of n items (always holds 1), `init_ms` a cold start.
    `sizes`: the same for every memory size that was measured, by memory.
    """

    memory_mb: int
    service: Quantiles
    batch_ms: Mapping[int, float]
    init_ms: float
    accuracy: float
    sizes: tuple[CpuSize, ...] = ()

    def at(self, memory_mb: int) -> CpuProfile:
        """Return what it takes in a function of `memory_mb`.

        That is what the next smaller size measured took. Below all of them it is slower than the smallest in
        proportion to its share of a CPU.
        """
        if memory_mb == self.memory_mb:
            return self
        sizes = self.sizes or (CpuSize(self.memory_mb, self.service, self.init_ms),)
        smaller = [size for size in sizes if size.memory_mb <= memory_mb]
        size = max(smaller, key=_memory) if smaller else min(sizes, key=_memory)
        slower = max(1.0, min(size.memory_mb, MB_PER_VCPU) / memory_mb)
        service = size.service.times(slower)
        factor = service.at(0.5) / self.batch_ms[1]
        return replace(
            self,
            memory_mb=memory_mb,
            service=service,
            batch_ms={items: ms * factor for items, ms in self.batch_ms.items()},
            init_ms=size.init_ms * slower,
        )


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """The gpu variant on one instance of the endpoint."""

    batch_ms: Mapping[int, float]
    max_batch: int
    max_wait_ms: float
    startup_s: float
    accuracy: float
    startup_billed: bool = True

    def items_per_s(self) -> float:
        """Return the highest throughput of one instance, over its batch sizes."""
        return max(1000.0 * size / ms for size, ms in self.batch_ms.items())


@dataclass(frozen=True, slots=True)
class Profile:
    """Both paths of a release and the network between function and endpoint."""

    name: str
    cpu: CpuProfile
    gpu: GpuProfile | None
    network: Quantiles
    escalation_share: float

    def at(self, memory_mb: int) -> Profile:
        """Return the profile in a function of `memory_mb`."""
        return replace(self, cpu=self.cpu.at(memory_mb))

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Profile:
        """Read the JSON object of a manifest's `profile` or of a reference profile.

        Raises `InvalidInput` that names the field, the value and what is allowed.
        """
        cpu = _section(raw, "cpu")
        gpu = raw.get("gpu")
        return cls(
            name=str(raw.get("name", "")),
            cpu=_cpu(cpu),
            gpu=None if gpu is None else _gpu(_section(raw, "gpu")),
            network=_quantiles(raw.get("network_ms", {"p50": 0, "p95": 0, "p99": 0}), "network_ms"),
            escalation_share=_number(raw.get("escalation_share", 0.0), "escalation_share", 0.0, 1.0),
        )


def _cpu(raw: Mapping[str, Any]) -> CpuProfile:
    service = _quantiles(_required(raw, "cpu", "service_ms"), "cpu.service_ms")
    batch_ms = _batches(raw.get("batch_ms", {"1": service.at(0.5)}), "cpu.batch_ms")
    return CpuProfile(
        memory_mb=int(_number(_required(raw, "cpu", "memory_mb"), "cpu.memory_mb", 128, 10240)),
        service=service,
        batch_ms=batch_ms,
        init_ms=_number(raw.get("init_ms", 0.0), "cpu.init_ms", 0.0),
        accuracy=_number(raw.get("accuracy", 1.0), "cpu.accuracy", 0.0, 1.0),
        sizes=_sizes(raw.get("memory_table", ())),
    )


def _sizes(raw: object) -> tuple[CpuSize, ...]:
    name = "cpu.memory_table"
    if not isinstance(raw, Sequence) or not all(isinstance(row, Mapping) for row in raw):
        raise InvalidInput(name, raw, "a list of objects with memory_mb, p50, p95, p99 and init_ms")
    return tuple(
        CpuSize(
            int(_number(row.get("memory_mb"), f"{name}.memory_mb", 128, 10240)),
            _quantiles(row, name),
            _number(row.get("init_ms"), f"{name}.init_ms", 0.0),
        )
        for row in raw
    )


def _memory(size: CpuSize) -> int:
    return size.memory_mb


def _gpu(raw: Mapping[str, Any]) -> GpuProfile:
    return GpuProfile(
        batch_ms=_batches(_required(raw, "gpu", "batch_ms"), "gpu.batch_ms"),
        max_batch=int(_number(raw.get("max_batch", 1), "gpu.max_batch", 1)),
        max_wait_ms=_number(raw.get("max_wait_ms", 0.0), "gpu.max_wait_ms", 0.0),
        startup_s=_number(raw.get("startup_s", 300.0), "gpu.startup_s", 0.0),
        accuracy=_number(raw.get("accuracy", 1.0), "gpu.accuracy", 0.0, 1.0),
        startup_billed=bool(raw.get("startup_billed", True)),
    )


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    if not isinstance(value, Mapping):
        raise InvalidInput(name, value, "an object")
    return value


def _required(raw: Mapping[str, Any], section: str, name: str) -> Any:
    if name not in raw:
        raise InvalidInput(f"{section}.{name}", None, "a value: the field is missing")
    return raw[name]


def _number(value: object, field: str, low: float, high: float | None = None) -> float:
    allowed = f"a number of at least {low:g}" + (f" and at most {high:g}" if high is not None else "")
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InvalidInput(field, value, allowed)
    if value < low or (high is not None and value > high):
        raise InvalidInput(field, value, allowed)
    return float(value)


def _quantiles(raw: object, field: str) -> Quantiles:
    if not isinstance(raw, Mapping) or "p50" not in raw or "p99" not in raw:
        raise InvalidInput(field, raw, "an object with p50, p99 and perhaps p95, in ms")
    p50 = _number(raw["p50"], f"{field}.p50", 0.0)
    p99 = _number(raw["p99"], f"{field}.p99", p50)
    # Where no p95 was measured, the point that an exponential tail through p50 and p99 would have.
    p95 = _number(raw.get("p95", p50 + 0.589 * (p99 - p50)), f"{field}.p95", p50, p99)
    return Quantiles.from_percentiles(p50, p95, p99)


def _batches(raw: object, field: str) -> dict[int, float]:
    if not isinstance(raw, Mapping) or "1" not in raw:
        raise InvalidInput(field, raw, 'an object from batch size to ms that holds "1"')
    batches = {}
    for size, ms in raw.items():
        if not (isinstance(size, str) and size.isdecimal() and int(size) > 0):
            raise InvalidInput(field, size, "batch sizes as positive whole numbers")
        batches[int(size)] = _number(ms, f"{field}.{size}", 1e-9)
    return batches
