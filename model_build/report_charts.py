"""The report's charts: which numbers of a build go into which picture."""

from __future__ import annotations

from collections.abc import Sequence

from model_build.calibrate import Cascade
from model_build.candidate import Measured
from model_build.chart import Axis, Dot, Series, around, around_log, heat, plot
from model_build.evaluate import Bin
from model_build.profile import Profiled
from model_build.trained import Trained

CSS_OF_PRECISION = {"fp32": "s0", "int8": "s1"}


def front(measured: Sequence[Measured]) -> list[Measured]:
    """The candidates that no other beats or equals in latency, score and size with one of them better."""

    def beaten(one: Measured, other: Measured) -> bool:
        mine = (one.p50_ms, -one.score, one.candidate.size_bytes)
        theirs = (other.p50_ms, -other.score, other.candidate.size_bytes)
        return theirs != mine and all(t <= m for t, m in zip(theirs, mine, strict=True))

    kept = [one for one in measured if not any(beaten(one, other) for other in measured)]
    return sorted(kept, key=lambda entry: entry.p50_ms)


def pareto(measured: Sequence[Measured], chosen: Measured, metric: str) -> str:
    """Latency against score; discs by file size; the efficient ones joined, the chosen one marked."""
    x = around_log([m.p50_ms for m in measured], "ms for one request, one thread")
    y = around([m.score for m in measured], f"{metric}, validation", form="{:.4g}".format)
    largest = max(m.candidate.size_bytes for m in measured)
    best = front(measured)
    names = {m.candidate.name for m in best}
    dots = [
        Dot(
            m.p50_ms,
            m.score,
            CSS_OF_PRECISION[m.candidate.precision],
            6 + 20 * (m.candidate.size_bytes / largest) ** 0.5,
            tip=f"{m.candidate.name}: {m.p50_ms:.3f} ms, {m.score:.4f}, {m.candidate.size_bytes:,} bytes",
            hollow=True,
        )
        for m in measured
    ]
    dots += [
        Dot(m.p50_ms, m.score, CSS_OF_PRECISION[m.candidate.precision], 4.5)
        for m in measured
        if m.candidate.name in names
    ]
    dots.append(Dot(chosen.p50_ms, chosen.score, "mark", 7, chosen.candidate.name, chosen.candidate.name))
    lines = [
        Series("fastest at this score", _staircase(best), "front", dashed=True),
        Series("float32", [], "s0"),
        Series("int8", [], "s1"),
    ]
    return plot(x, y, lines, dots, name="latency against score of every candidate")


def _staircase(best: Sequence[Measured]) -> list[tuple[float, float]]:
    """The front in latency and score alone, as the steps of a stair."""
    steps: list[tuple[float, float]] = []
    for entry in sorted(best, key=lambda m: (m.p50_ms, -m.score)):
        if not steps or entry.score > steps[-1][1]:
            if steps:
                steps.append((entry.p50_ms, steps[-1][1]))
            steps.append((entry.p50_ms, entry.score))
    return steps


def memory_cost(profiled: Profiled) -> str:
    """USD per million by memory."""
    rows = [row for row in profiled.memory_table if row.fits]
    x = around_log([row.memory_mb for row in rows], "function memory, MB", form="{:,.0f}".format)
    high = max(row.usd_per_million for row in rows)
    y = Axis("USD per million", 0, 1.12 * high)
    dots = [
        Dot(row.memory_mb, row.usd_per_million, "s2",
            tip=f"{row.memory_mb} MB: {row.usd_per_million:.3f} USD, p99 {row.p99:.2f} ms")
        for row in rows
    ]  # fmt: skip
    chosen = profiled.chosen
    label = f"{chosen.memory_mb} MB, p99 {chosen.p99:.2f} ms"
    dots.append(Dot(chosen.memory_mb, chosen.usd_per_million, "mark", 7, label, label))
    line = Series("", [(row.memory_mb, row.usd_per_million) for row in rows], "s2")
    return plot(x, y, [line], dots, name="cost by memory size")


def escalation(cascade: Cascade) -> str:
    """Share escalated against the cascade's accuracy."""
    points = sorted((point.escalation_share, point.accuracy) for point in cascade.curve)
    scores = [accuracy for _share, accuracy in points] + [cascade.teacher_accuracy]
    y = around(
        [*scores, cascade.teacher_accuracy - cascade.epsilon], "accuracy of the cascade", "{:.4g}".format
    )
    x = Axis("share of requests escalated to the GPU", 0, 1, form="{:.0%}".format)
    teacher = cascade.teacher_accuracy
    lines = [
        Series("cascade", points, "s0"),
        Series("GPU alone", [(0.0, teacher), (1.0, teacher)], "s1", dashed=True),
    ]
    label = f"threshold {cascade.threshold:.3f}"
    dot = Dot(cascade.escalation_share, cascade.accuracy, "mark", 7, label, label)
    return plot(x, y, lines, [dot], band=(teacher - cascade.epsilon, y.high), name="escalation curve")


def reliability(bins: Sequence[Bin]) -> str:
    """Confidence against the share of right answers; discs by how many examples."""
    low = min(0.5, *(min(b.confidence, b.accuracy) for b in bins))
    x = Axis("confidence", low, 1.02, form="{:.0%}".format)
    y = Axis("share right", low, 1.02, form="{:.0%}".format)
    most = max(b.count for b in bins)
    dots = [
        Dot(b.confidence, b.accuracy, "s0", 3 + 12 * (b.count / most) ** 0.5,
            tip=f"{b.count} examples at {b.confidence:.1%}: {b.accuracy:.1%} right")
        for b in bins
    ]  # fmt: skip
    ideal = Series("perfectly calibrated", [(low, low), (1.0, 1.0)], "s1", dashed=True)
    measured = Series("cpu variant (disc: examples)", [(b.confidence, b.accuracy) for b in bins], "s0")
    return plot(x, y, [ideal, measured], dots, name="reliability diagram")


def learning(networks: Sequence[Trained], metric: str) -> str:
    """Validation score by epoch."""
    curves = [network for network in networks if network.curve]
    scores = sorted(epoch.score for network in curves for epoch in network.curve)
    # The first epochs' dive would flatten the part that matters.
    floor = max(scores[0], scores[len(scores) // 10] - 0.02)
    last = max(epoch.epoch for network in curves for epoch in network.curve)
    x = Axis("epoch", 0, max(last, 1), form="{:.0f}".format)
    y = around([floor, scores[-1]], f"{metric}, validation", "{:.4g}".format)
    lines = [
        Series(network.name, [(e.epoch, max(e.score, y.low)) for e in network.curve], f"s{index}")
        for index, network in enumerate(curves)
    ]
    return plot(x, y, lines, name="learning curves")


def confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """What is against what was answered."""
    return heat(counts, labels, "confusion matrix")
