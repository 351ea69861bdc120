"""The gate: a small synthetic set, planned afresh and held against the committed result.

A change to the policy that moves the bill shows here: either it was meant (then `--accept` writes the new
result, and the review sees both), or it was not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .designs import NAMES
from .plan import make_plan, summary
from .scenario import read_profile
from .synthetic import generate

FOLDER = Path(__file__).parent / "reference"
EXPECTED = FOLDER / "check.json"
SEED = 20
# profile, synthetic kind, requests/s, seconds: around each profile's break-even, below it and above it.
CASES = (
    ("heavy", "poisson", 6.0, 3600),
    ("heavy", "flash-crowd", 2.0, 3600),
    ("heavy", "mmpp", 4.0, 5400),
    ("medium", "diurnal", 30.0, 5400),
    ("quality", "poisson", 8.0, 3600),
    ("light", "poisson", 60.0, 1200),
)
# How far a number may move: relative for money, absolute for shares and regret.
TOLERANCE = {"cost_usd": 0.02, "attainment": 0.002, "regret": 0.02}

Results = dict[str, dict[str, dict[str, float]]]


def run() -> Results:
    """Plan every case: {case: {policy: {cost_usd, attainment, regret}}}."""
    results: Results = {}
    for profile, kind, rps, length_s in CASES:
        trace = generate(kind, rps, float(length_s), SEED)
        body = summary(make_plan(read_profile(FOLDER / f"{profile}.json"), trace, NAMES, SEED))
        policies = body["policies"]
        assert isinstance(policies, dict)  # noqa: S101 - what summary returns
        results[f"{profile} {kind}"] = {
            name: {key: round(float(numbers[key]), 6) for key in TOLERANCE}
            for name, numbers in policies.items()
        }
    return results


def moved(expected: Results, found: Results) -> list[str]:
    """What moved by more than the tolerance, one line each; also what is missing or new."""
    lines = []
    for case in sorted(expected.keys() | found.keys()):
        if case not in expected or case not in found:
            lines.append(f"{case}: only in the {'committed' if case in expected else 'new'} result")
            continue
        for policy in sorted(expected[case].keys() | found[case].keys()):
            was, now = expected[case].get(policy), found[case].get(policy)
            if was is None or now is None:
                lines.append(f"{case}, {policy}: only in the {'committed' if was else 'new'} result")
                continue
            for key, tolerance in TOLERANCE.items():
                allowed = tolerance * was[key] if key == "cost_usd" else tolerance
                if abs(now[key] - was[key]) > allowed:
                    lines.append(f"{case}, {policy}: {key} {was[key]:.6g} -> {now[key]:.6g}")
    return lines


def command(as_json: bool, accept: bool) -> None:
    """Run the gate: exit code 1 and a line for each number that moved; or accept the new result."""
    found = run()
    if accept:
        part = EXPECTED.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        part.replace(EXPECTED)
        print(f"accepted: {EXPECTED.name}", file=sys.stderr)
        return
    lines = moved(json.loads(EXPECTED.read_text()), found)
    if as_json:
        print(json.dumps({"moved": lines, "cases": len(found)}))
    else:
        print("\n".join(lines) if lines else f"{len(found)} cases: nothing moved")
    if lines:
        raise SystemExit(1)
