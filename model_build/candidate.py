"""A candidate for the cpu variant: one network, exported, in one precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_build.export import Exported

LoadOptimisation = Literal["off", "extended", "all"]


@dataclass(frozen=True, slots=True)
class Graph:
    """A network exported to float32 ONNX. `pruned_share`: share of channels removed."""

    network: str
    pruned_share: float
    exported: Exported


@dataclass(frozen=True, slots=True)
class ExportResult:
    """One graph for each student that pruning kept, the most pruned first."""

    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One graph on disk that might become the cpu variant.

    `name`: network/precision scheme, unique in the build; `quantised`: int8 nodes by operator (empty for
    fp32).
    """

    name: str
    network: str
    scheme: str
    words: str
    precision: Literal["fp32", "int8"]
    pruned_share: float
    path: Path
    size_bytes: int
    quantised: dict[str, int]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every candidate, and what was tried and could not be made, with the reason."""

    candidates: tuple[Candidate, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate with its numbers: the metric on validation, and times of one thread at batch 1 in ms.

    `session_ms`: opening the graph at `load_optimisation`, the level at which it is best opened.
    """

    candidate: Candidate
    score: float
    p50_ms: float
    session_ms: float
    load_optimisation: LoadOptimisation


@dataclass(frozen=True, slots=True)
class MeasureResult:
    """Every candidate measured side by side on this machine."""

    measured: tuple[Measured, ...]
    failed: tuple[str, ...] = ()
