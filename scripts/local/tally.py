"""What the functions' own logs say of the traffic so far: one metrics line for every request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request: epoch seconds, ms, USD without the GPU's rent."""

    at_s: float
    model: str
    path: str
    latency_ms: float
    cost_usd: float
    met: bool
    degraded: bool
    escalated: bool


@dataclass(slots=True)
class Tally:
    """All requests so far."""

    served: list[Served] = field(default_factory=list)

    def add(self, lines: Iterable[str]) -> None:
        self.served += [found for line in lines if (found := parse(line))]

    def shares(self) -> dict[str, float]:
        """The share of each path, of all requests."""
        paths = [one.path for one in self.served]
        return {path: paths.count(path) / len(paths) for path in sorted(set(paths))}

    def share(self, what: str) -> float:
        """The share of requests of which `met`, `degraded` or `escalated` is true; 0 without any."""
        return sum(getattr(one, what) for one in self.served) / len(self.served) if self.served else 0.0

    def percentile_ms(self, share: float) -> float:
        """Nearest rank; 0 without any."""
        ordered = sorted(one.latency_ms for one in self.served)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    @property
    def requests_usd(self) -> float:
        return sum(one.cost_usd for one in self.served)


def parse(line: str) -> Served | None:
    """A request's metrics line (CloudWatch's embedded format), or None for any other line."""
    if '"_aws"' not in line or '"Cost"' not in line:
        return None
    try:
        found: dict[str, Any] = json.loads(line)
        return Served(
            found["_aws"]["Timestamp"] / 1000, found["model"], found["path"], value(found["Latency"]),
            value(found["Cost"]), value(found["ObjectiveMet"]) > 0, value(found["Degraded"]) > 0,
            value(found["Escalated"]) > 0,
        )  # fmt: skip
    except (ValueError, KeyError):
        return None  # half a line: the function is still writing it


def value(metric: Any) -> float:
    """The format has a number, or a list of them."""
    return float(metric[-1] if isinstance(metric, list) else metric)


class Follower:
    """Reads what has been added to a log since the last time, whole lines only."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def lines(self) -> list[str]:
        if not self._path.is_file():
            return []
        with self._path.open("rb") as log:
            log.seek(self._at)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode(errors="replace").splitlines()
