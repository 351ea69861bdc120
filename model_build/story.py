"""What the report of a build tells, and how it writes numbers."""

from __future__ import annotations

from dataclasses import dataclass

from model_build.candidate import MeasureResult
from model_build.recipe import Recipe
from model_build.release import Parts
from model_build.trained import DistilResult, PruneResult, Trained


@dataclass(frozen=True, slots=True)
class Story:
    """All results of one build, as the report tells them."""

    recipe: Recipe
    teacher: Trained
    student: DistilResult
    reference: Trained | None
    pruned: PruneResult
    measured: MeasureResult
    parts: Parts


def shown_score(value: float) -> str:
    """A metric's value."""
    return f"{value:.4f}"


def shown_points(difference: float) -> str:
    """A difference of a metric, in points."""
    return f"{100 * difference:+.2f} points".replace("-", "−")


def shown_bytes(count: int) -> str:
    """A size."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def shown_ms(value: float) -> str:
    """A time."""
    return f"{value:.3f} ms" if value < 1 else f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"
