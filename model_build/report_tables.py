"""The tables of a build's report, each on a card."""

from __future__ import annotations

from model_build import page
from model_build.candidate import Measured
from model_build.story import Story, shown_bytes, shown_ms, shown_points, shown_score


def steps(story: Story) -> str:
    """What each step bought."""
    parts, student = story.parts, story.student
    chosen = parts.gated.chosen
    base = _float_of(story, chosen.candidate.network)
    whole = _float_of(story, student.chosen.name)
    graph = next(g for g in parts.exported.graphs if g.network == chosen.candidate.network)
    rows = [
        _step("teacher", story.teacher.score, "becomes the gpu variant",
              parts.gpu.size_bytes, parts.profiled.gpu_batch_ms[1]),
        _step("student, labels only", student.plain.score, f"{student.plain.parameters:,} parameters"),
    ]  # fmt: skip
    if student.distilled is not None:
        gain = shown_points(student.distilled.score - student.plain.score)
        kept = student.chosen.name == student.distilled.name
        words = f"{gain} from the teacher's answers; {'kept' if kept else 'not kept'}"
        rows.append(_step("+ distilled", student.distilled.score, words, *_cost(whole if kept else None)))
    if chosen.candidate.pruned_share:
        words = f"{chosen.candidate.pruned_share:.0%} of the parameters gone, widths in steps of 16"
        rows.append(_step("+ pruned", base.score, words, *_cost(base)))
    elif story.recipe.pruning is not None:
        words = "not used: no pruned candidate was worth its loss; see the candidates below"
        rows.append(_step("+ pruned", None, words))
    words = f"{graph.exported.exporter} exporter, within {graph.exported.parity.max_rel:.0e} of PyTorch"
    rows.append(_step("+ exported and fused", base.score, words, *_cost(base)))
    rows.append(_step(f"+ {chosen.candidate.scheme}", chosen.score, parts.gated.reason, *_cost(chosen)))
    cascade = parts.calibration.cascade
    if cascade is not None:
        words = f"{cascade.escalation_share:.1%} of requests ask the GPU; on the threshold split"
        rows.append(_step("+ cascade", cascade.accuracy, words))
    name = story.recipe.metric.name
    note = f"{name} on the validation split, size of the file, median of one request on one CPU thread."
    headings = ("step", name, "size", "p50", "what it bought")
    return page.card("What each step bought", note, page.table(headings, rows, words=4))


def _float_of(story: Story, network: str) -> Measured:
    found = [m for m in story.measured.measured if m.candidate.precision == "fp32"]
    return next((m for m in found if m.candidate.network == network), story.parts.gated.chosen)


def _cost(entry: Measured | None) -> tuple[int | None, float | None]:
    return (None, None) if entry is None else (entry.candidate.size_bytes, entry.p50_ms)


def _step(
    name: str, score: float | None, words: str, size: int | None = None, p50_ms: float | None = None
) -> tuple[str, ...]:
    return (
        name,
        "" if score is None else shown_score(score),
        "" if size is None else shown_bytes(size),
        "" if p50_ms is None else shown_ms(p50_ms),
        words,
    )


def networks(story: Story) -> str:
    """Every network and both variants on the test split."""
    evaluated = story.parts.evaluated
    rows = [
        (
            row.name,
            shown_score(row.score),
            "" if row.parameters is None else f"{row.parameters:,}",
            "" if row.size_bytes is None else shown_bytes(row.size_bytes),
        )
        for row in evaluated.rows
    ]
    note = f"Every network and both variants on the test split: {evaluated.examples:,} examples, read once."
    headings = ("network", story.recipe.metric.name, "parameters", "size")
    return page.card("On unseen data", note, page.table(headings, rows))


def candidates(story: Story) -> str:
    """Every candidate that was measured, and its verdict."""
    chosen = story.parts.gated.chosen.candidate.name
    verdicts = {verdict.name: verdict.failures for verdict in story.parts.gated.verdicts}
    entries = sorted(story.measured.measured, key=lambda m: m.p50_ms)
    rows = [_candidate_row(m, verdicts, chosen) for m in entries]
    index = next(i for i, m in enumerate(entries) if m.candidate.name == chosen)
    headings = ("candidate", "validation", "size", "p50", "session", "int8 nodes", "verdict")
    note = (
        "Timed in turns in fresh processes, best median of the rounds, each at the level that suits it best."
    )
    failed = "".join(f'<p class="note">not made: {text}</p>' for text in story.measured.failed)
    return page.card("Candidates", note, page.table(headings, rows, index, words=6) + failed)


def _candidate_row(m: Measured, verdicts: dict[str, tuple[str, ...]], chosen: str) -> tuple[str, ...]:
    nodes = ", ".join(f"{count} {kind}" for kind, count in m.candidate.quantised.items())
    return (
        m.candidate.name,
        shown_score(m.score),
        shown_bytes(m.candidate.size_bytes),
        shown_ms(m.p50_ms),
        shown_ms(m.session_ms),
        nodes or "–",
        "chosen" if m.candidate.name == chosen else "; ".join(verdicts.get(m.candidate.name, ())),
    )


def memory(story: Story) -> str:
    """What each memory size takes and costs."""
    profiled = story.parts.profiled
    rows = [
        (f"{r.memory_mb:,} MB", f"{r.vcpu:.2f}", str(r.threads),
         *map(shown_ms, (r.p50, r.p95, r.p99, r.init_ms)),
         f"{r.usd_per_million:.3f}", "yes" if r.fits else "no", "modelled" if r.modelled else "measured")
        for r in profiled.memory_table
    ]  # fmt: skip
    index = next(i for i, r in enumerate(profiled.memory_table) if r.memory_mb == profiled.memory_mb)
    headings = ("memory", "vCPU", "threads", "p50", "p95", "p99", "init", "USD / million", "fits", "how")
    note = (
        f"{profiled.reason}. Price: {profiled.price.source}, {profiled.price.as_of}; "
        f"{profiled.cold_share:.0%} of "
        "requests pay a cold start; durations are billed by the whole millisecond. p50 to p99 are the "
        "model's own, init and price hold the handler too. Measured under a CPU quota of that share, or "
        "modelled from one thread where the machine has no such share to give."
    )
    return page.card("Memory size, latency and cost", note, page.table(headings, rows, index))


def checks(story: Story) -> str:
    """What was checked, and how it came out."""
    parts = story.parts
    cascade, calibration = parts.calibration.cascade, parts.calibration
    exported = next(
        g for g in parts.exported.graphs if g.network == parts.gated.chosen.candidate.network
    ).exported
    parity = exported.parity
    sizes = " and ".join(map(str, parity.batch_sizes))
    words = (
        f"largest difference {parity.max_abs:.1e} ({parity.max_rel:.1e} relative) over {parity.inputs} "
        "inputs, "
        f"in batches of {sizes}"
    )
    rows = [("export parity", words)]
    rows += [("exporter rejected", text) for text in exported.rejected]
    rows += [(f"ISA parity, {r.cpu}", f"{r.status}: {r.detail}") for r in parts.gated.isa.results]
    rows += [("weights", _placed(story))]
    rows += [(f"gate, {v.name}", "; ".join(v.failures) or "passed") for v in parts.gated.verdicts]
    if cascade is not None:
        promise = f"P(excess error ≤ {cascade.epsilon:g}) ≥ {1 - cascade.delta:g}"
        words = (
            f"{promise} at threshold {cascade.threshold:.4f}: of {cascade.examples} held-out examples "
            "just the "
            f"cascade errs on {cascade.worse}, just the large model on {cascade.better} (p = "
            f"{cascade.p_value:.3g}; learn then test, exact paired test)"
        )
        rows.append(("guarantee", words))
        words = (
            f"temperature {calibration.temperature:.3f}; expected calibration error "
            f"{calibration.ece_before:.4f} before, {calibration.ece_after:.4f} after"
        )
        rows.append(("calibration", words))
    note = "What was checked before this release was made."
    return page.card("Checks", note, page.table(("check", "result"), rows, words=1))


def _placed(story: Story) -> str:
    placed = story.parts.placed
    if placed.inside_ms is None or placed.beside_ms is None:
        return "inside the file: too small to gain from mapping"
    where = "inside the file" if placed.data is None else "beside the file, mapped into memory"
    return f"{where}: opens in {placed.inside_ms:.1f} ms inside, {placed.beside_ms:.1f} ms beside"
