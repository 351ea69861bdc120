"""The price table: what AWS charges in one region, with the date, source and confidence of every number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from handlers.errors import InvalidConfig

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Price:
    """One price in USD for one `unit`; `confidence` is high (price list), mid (dated page) or low."""

    key: str
    usd: float
    unit: str
    as_of: str
    confidence: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A SageMaker instance type: USD an hour for hosting, and its size; memories in GB."""

    type: str
    usd_per_hour: float
    gpus: int
    vcpus: int
    memory_gb: int
    gpu_memory_gb: int
    as_of: str
    confidence: str
    source: str


@dataclass(frozen=True, slots=True)
class PriceTable:
    """All prices of one region."""

    region: str
    prices: Mapping[str, Price]
    instances: Mapping[str, Instance]

    def usd(self, key: str) -> float:
        """The price called `key`, in USD for its unit; InvalidConfig names the known keys."""
        if key not in self.prices:
            raise InvalidConfig("price", key, "one of " + ", ".join(sorted(self.prices)))
        return self.prices[key].usd

    def instance(self, instance_type: str) -> Instance:
        """The instance type's price and size; InvalidConfig names the known types."""
        if instance_type not in self.instances:
            raise InvalidConfig("instance_type", instance_type, "one of " + ", ".join(self.instances))
        return self.instances[instance_type]


def known_regions() -> tuple[str, ...]:
    """The regions that have a price table."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def load_prices(region: str = "us-east-1") -> PriceTable:
    """The table of `region`; InvalidConfig names the regions that have one."""
    if region not in known_regions():
        raise InvalidConfig(
            "region",
            region,
            f"one of {', '.join(known_regions())} (`turnout prices refresh --region` adds one)",
        )
    table = json.loads((FOLDER / f"{region}.json").read_text())
    return PriceTable(
        region=table["region"],
        prices=MappingProxyType({row["key"]: Price(**row) for row in table["prices"]}),
        instances=MappingProxyType({row["type"]: Instance(**row) for row in table["instances"]}),
    )


def gpu_types() -> tuple[str, ...]:
    """Every GPU instance type that the reference table prices."""
    return tuple(name for name, row in load_prices().instances.items() if row.gpus)
