"""The report of a build: one HTML file that opens offline."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

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


def render(story: Story) -> str:
    """The whole page."""
    rows = "".join(
        f"<tr><td>{escape(m.candidate.name)}</td><td>{m.candidate.size_bytes}</td><td>{m.p50_ms:.4f}</td>"
        f"<td>{m.score:.4f}</td></tr>"
        for m in story.measured.measured
    )
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(story.recipe.name)}</title>"
        f"<h1>{escape(story.recipe.name)}</h1><p>{escape(story.parts.gated.reason)}</p>"
        f"<table><tr><th>candidate<th>bytes<th>p50 ms<th>validation</tr>{rows}</table>"
    )
