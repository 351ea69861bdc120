"""One worker as the engine sees it: what it holds, and when it will be free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model_build.gpu_server.waiting import Part

DEPTH = 2
"""Batches that a worker holds at most: one computes, one is copied."""


@dataclass(slots=True)
class Batch:
    """Parts that left together, and where their answers come to lie."""

    parts: list[Part]
    items: int
    out: int


@dataclass(slots=True, eq=False)
class Lane:
    """One worker as the engine sees it: how to reach it, what it holds, its output places in the arena, and
    when the last of its batches is due.

    `collect` takes in what the worker has answered by now, without waiting for the event loop's next round.
    """

    send: Callable[[dict[str, Any]], None]
    outs: list[int]
    collect: Callable[[], None]
    batches: dict[int, Batch] = field(default_factory=dict)
    due: float = 0.0

    def free_at(self, now: float) -> float:
        """When its last batch should be back."""
        return self.due if self.batches else now
