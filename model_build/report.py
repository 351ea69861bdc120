"""The report of a build: one HTML file that opens offline, for whoever pays and for whoever maintains."""

from __future__ import annotations

from model_build import page
from model_build.report_charts import confusion, escalation, learning, memory_cost, pareto, reliability
from model_build.report_tables import candidates, checks, memory, networks, steps
from model_build.story import Story, shown_bytes, shown_ms, shown_points, shown_score


def render(story: Story) -> str:
    """The whole page."""
    parts, recipe = story.parts, story.recipe
    body = [_head(story), _tiles(story), steps(story)]
    body.append(
        page.pair(
            page.card(
                "Every candidate tried",
                "Left and up is better; a larger disc is a larger file. A solid core: no other is at "
                "least as good in speed, score and size.",
                pareto(story.measured.measured, parts.gated.chosen, recipe.metric.name),
            ),
            page.card(
                "What a million requests cost",
                "USD per million by the function's memory, request and billed init included; the mark is "
                "the size "
                "chosen.",
                memory_cost(parts.profiled),
            ),
        )
    )
    cascade = parts.calibration.cascade
    if cascade is not None:
        body.append(
            page.pair(
                page.card(
                    "Escalation curve",
                    "How good the answers are when a share of requests goes on to the GPU. Shaded: "
                    "within epsilon of "
                    "the GPU alone.",
                    escalation(cascade),
                ),
                page.card(
                    "Reliability",
                    "When the model says 80 %, is it right in 80 of 100? On the test split, after the "
                    "temperature.",
                    reliability(parts.evaluated.reliability),
                ),
            )
        )
    curves = [
        story.teacher,
        story.student.plain,
        *([story.student.distilled] if story.student.distilled else []),
    ]
    learning_card = page.card(
        "Learning curves",
        "The metric on the validation split, epoch by epoch.",
        learning(curves, recipe.metric.name),
    )
    if parts.evaluated.confusion:
        matrix = confusion(parts.evaluated.confusion, recipe.labels)
        body.append(
            page.pair(
                learning_card,
                page.card("Confusion", "The cpu variant on the test split. Red: mistakes.", matrix),
            )
        )
    else:
        body.append(learning_card)
    body += [networks(story), candidates(story), memory(story), checks(story), _footer(story)]
    return page.page(f"{recipe.name}: build report", "".join(body))


def _head(story: Story) -> str:
    parts, recipe = story.parts, story.recipe
    chosen = parts.gated.chosen
    cascade = parts.calibration.cascade
    faster = parts.profiled.gpu_batch_ms[1] / chosen.p50_ms
    smaller = parts.gpu.size_bytes / chosen.candidate.size_bytes
    promise = (
        f" With {1 - cascade.delta:.0%} confidence, escalating {cascade.escalation_share:.1%} of "
        "requests keeps the "
        f"error within {100 * cascade.epsilon:g} points of the large model's."
        if cascade
        else ""
    )
    drop = parts.evaluated.drop
    interval = f"{shown_points(-drop.high)} to {shown_points(-drop.low)} at 90 % confidence"
    return (
        f'<p class="kicker">turnout build report</p><h1>{recipe.name}</h1><p class="lede">The cpu variant is '
        f"{faster:.0f}× faster on one CPU thread and {smaller:.0f}× smaller than the large model, at "
        f"{shown_points(parts.evaluated.cpu - parts.evaluated.gpu)} of {recipe.metric.name} on unseen "
        f"data ({interval}).{promise}</p>"
    )


def _tiles(story: Story) -> str:
    parts = story.parts
    evaluated, chosen, row = parts.evaluated, parts.gated.chosen, parts.profiled.chosen
    entries = [
        (
            shown_score(evaluated.cpu),
            f"{story.recipe.metric.name}, cpu variant",
            f"{shown_score(evaluated.gpu)} gpu variant",
        ),
        (
            shown_bytes(chosen.candidate.size_bytes),
            "file that a function loads",
            f"{shown_bytes(parts.gpu.size_bytes)} gpu",
        ),
        (
            shown_ms(chosen.p50_ms),
            "per request, one thread",
            f"{shown_ms(parts.profiled.gpu_batch_ms[1])} gpu variant on CPU",
        ),
        (f"${row.usd_per_million:.2f}", "per million requests", f"{row.memory_mb} MB function, arm64"),
    ]
    if evaluated.cascade is not None and evaluated.escalation_share is not None:
        share = f"{evaluated.escalation_share:.1%} escalated"
        entries.append((shown_score(evaluated.cascade), "both together, on the test split", share))
    return page.tiles(entries)


def _footer(story: Story) -> str:
    return (
        f"<footer>Measured on {story.parts.profiled.machine}, one thread unless it says otherwise. Test "
        "split: "
        f"{story.parts.evaluated.examples:,} examples, read once. gpu variant timed on CPU here; the "
        "endpoint measures "
        "itself where it runs.</footer>"
    )
