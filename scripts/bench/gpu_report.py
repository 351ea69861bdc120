"""What the GPU server's bench found, as a table and as the targets that it is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

OVERLOAD = 1.5
SHARES = ("50%", "80%", "95%")


@dataclass(frozen=True, slots=True)
class Target:
    """One number that was asked for: what was found and whether it is enough."""

    text: str
    found: str
    met: bool


def targets(result: dict[str, Any]) -> list[Target]:
    """Every target that the measured models and kinds allow to judge."""
    found: list[Target] = []
    for model in result["models"]:
        rows = {(row["server"], row["kind"]): row for row in model["rows"]}
        for (server, kind), row in rows.items():
            if server == "turnout":
                others = {name: rows.get((name, kind)) for name in ("mosec", "floor")}
                found += _of_row(model, kind, row, others, result["max_wait_ms"])
        json_row, binary_row = rows.get(("turnout", "json")), rows.get(("turnout", "binary"))
        if model["model"] == "wide" and json_row and binary_row:
            times = binary_row["capacity_per_s"] / json_row["capacity_per_s"]
            found.append(Target("wide: binary at least 3 x JSON", f"{times:.1f} x", times >= 3))
    return found


def _of_row(
    model: dict[str, Any],
    kind: str,
    row: dict[str, Any],
    others: dict[str, dict[str, Any] | None],
    max_wait_ms: float,
) -> list[Target]:
    name = f"{model['model']} {kind}"
    full = model["raw"][str(model["max_batch"])]
    found: list[Target] = []
    if full["ms"] >= 2:
        share = row["of_raw"]
        found.append(Target(f"{name}: saturation at least 95 % of raw", f"{share:.0%}", share >= 0.95))
    mosec, floor = others["mosec"], others["floor"]
    if model["model"] == "light" and mosec is not None:
        share = row["capacity_per_s"] / mosec["capacity_per_s"]
        found.append(Target(f"{name}: at least mosec's throughput", f"{share:.0%} of it", share >= 1))
    if "p99_80%" in row:
        limit = 2.5 * (full["ms"] + max_wait_ms)
        p99, text = row["p99_80%"], f"{row['p99_80%']:.1f} ms"
        if floor is not None:
            text += f" (a server without a model: {floor['p99_80%']:.1f} ms)"
        found.append(Target(f"{name}: p99 at 80 % at most {limit:.1f} ms", text, p99 <= limit))
    if "overload" in row:
        over = row["overload"]
        goodput, refusal = over["goodput_share"], over["refusal_p99_ms"]
        before, after = _memory(row)
        found += [
            Target(f"{name}: goodput at 150 % at least 90 %", f"{goodput:.0%}", goodput >= 0.9),
            Target(f"{name}: refusals at 150 % p99 at most 2 ms", f"{refusal:.1f} ms", refusal <= 2),
            Target(
                f"{name}: memory flat at 150 %", f"{before:.0f} -> {after:.0f} MiB", after <= 1.05 * before
            ),
        ]
    return found


def _memory(row: dict[str, Any]) -> tuple[float, float]:
    """The front's own MiB before the first round's overload and after the last one's."""
    return row["rounds"][0]["overload"]["own_mib_before"], row["rounds"][-1]["overload"]["own_mib"]


def table(result: dict[str, Any]) -> str:
    """The result as text: one block a model, then the targets."""
    threads, wait_ms = result["threads"], result["max_wait_ms"]
    lines = [f"{result['machine']}, {result['date']}, {threads} PyTorch thread(s), max wait {wait_ms:g} ms"]
    for model in result["models"]:
        full = model["raw"][str(model["max_batch"])]
        lines.append(
            f"\n{model['model']}: raw batch of {model['max_batch']} {full['ms']:.2f} ms (before and after)"
            f" = {full['items_per_s']:.0f}/s; the machine itself lets a process wait, p99 before and after: "
            + ", ".join(f"{ms:.1f} ms" for ms in model["machine_wait_p99_ms"])
        )
        columns = "".join(f"{f'p50/p99 at {share}':>19}" for share in SHARES if _open(model))
        lines.append(f"{'':18}{'capacity/s':>11}{'of raw':>8}{'CPU us':>8}{'load CPU':>10}{columns}")
        lines += [line for row in model["rows"] for line in _lines(row)]
    lines.append("")
    lines += [f"{'yes' if t.met else 'NO':5}{t.text}: {t.found}" for t in targets(result)]
    return "\n".join(lines)


def _open(model: dict[str, Any]) -> bool:
    return any("p99_80%" in row for row in model["rows"])


def _lines(row: dict[str, Any]) -> list[str]:
    shares = "".join(
        f"{row[f'p50_{share}']:>10.1f} /{row[f'p99_{share}']:>7.1f}"
        for share in SHARES
        if not math.isnan(row.get(f"p99_{share}", math.nan))
    )
    capacity = row["capacity_per_s"]
    name, busy = f"{row['server']} {row['kind']}", row["generator_cpu_share"]
    rounds = f" ({len(row['rounds'])} rounds)" if len(row["rounds"]) > 1 else ""
    costs = f"{row['cpu_us_per_request']:>8.0f}{busy:>10.0%}"
    lines = [f"{name:18}{capacity:>11.1f}{row['of_raw']:>8.0%}{costs}{shares}{rounds}"]
    if "overload" in row:
        over = row["overload"]
        before, after = _memory(row)
        refusals = f"p50 {over['refusal_p50_ms']:.2f} p99 {over['refusal_p99_ms']:.2f} ms"
        lines.append(
            f"{'':18}at 150 %, deadline {over['deadline_ms']:.0f} ms: goodput {over['goodput_share']:.0%} of"
            f" capacity, refused {over['refused']:.0f} in {refusals}, dropped {over['dropped']:.0f},"
            f" {over['given_up']:.0f} too late to be sent,"
            f" front {before:.0f} -> {after:.0f} MiB; generator"
            f" {over['generator_cpu_share']:.0%} of a core, late by {over['send_lag_p99_ms']:.1f} ms at p99"
        )
    return lines
