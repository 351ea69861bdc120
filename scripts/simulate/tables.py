"""The table of all traces × profiles × policies that stands in docs/planner.md, made by one command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from handlers.errors import InvalidInput

from .designs import NAMES
from .plan import Plan, make_plan
from .readers import read
from .rows import Options
from .scenario import read_profile
from .trace import Trace

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "planner.md"
PROFILES = Path(__file__).parent / "reference"
BEGIN, END = "<!-- table: turnout plan --table -->", "<!-- end of table -->"
TRACES = {
    "azure conv": "azure_llm_2023/AzureLLMInferenceTrace_conv.csv",
    "azure code": "azure_llm_2023/AzureLLMInferenceTrace_code.csv",
    "mooncake": "mooncake_2024/conversation_trace.jsonl.gz",
    "azure functions": "azure_functions_2019/invocations_per_minute.csv.gz",
}
# Full scale, where the GPU just pays, and where it clearly does. A day of the functions trace has 11.6 M
# requests: all designs see scales that leave about a million, larger ones those of `FEW` and `FEWER`.
SCALES: dict[str, dict[str, tuple[float, ...]]] = {
    "azure conv": {"heavy": (0.3, 1, 10), "medium": (1, 20), "quality": (0.3, 1, 10), "light": (1, 30)},
    "azure code": {"heavy": (1, 10), "medium": (1, 10, 30), "quality": (1, 3), "light": (1,)},
    "mooncake": {"heavy": (0.3, 1, 10), "medium": (1, 10, 30), "quality": (0.3, 1, 3), "light": (1, 30)},
    "azure functions": {
        "heavy": (0.03, 1),
        "medium": (0.1, 0.3, 1),
        "quality": (0.03, 1),
        "light": (0.03, 1),
    },
}
FEW = ("turnout", "all_cpu", "target_tracking", "clairvoyant")
MANY_REQUESTS = 2_000_000
FEWER = ("turnout", "all_cpu", "clairvoyant")
MOST_REQUESTS = 5_000_000
COLUMNS = [name for name in NAMES if name != "turnout"]


def traces_folder() -> Path:
    """Where the public traces lie: TURNOUT_TRACES_DIR, else beside the repository."""
    folder = Path(os.environ.get("TURNOUT_TRACES_DIR", ROOT.parent / "shared" / "traces"))
    if not folder.is_dir():
        raise InvalidInput("TURNOUT_TRACES_DIR", str(folder), "the folder that holds the traces")
    return folder


def command() -> None:
    """Replay everything and write the table into the document; takes some minutes."""
    folder = traces_folder()
    rows = [header()]
    for label, file in TRACES.items():
        base = read(folder / file, Options())
        for profile, scales in SCALES[label].items():
            for scale in scales:
                print(f"{label}, {profile}, x{scale:g}", file=sys.stderr, flush=True)
                rows.append(row(label, profile, scale, planned(base, profile, scale)))
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    part = DOCUMENT.with_suffix(".part")
    part.write_text(before + BEGIN + "\n\n" + "\n".join(rows) + "\n\n" + END + after)
    part.replace(DOCUMENT)


def planned(base: Trace, profile: str, scale: float) -> Plan:
    """One plan of the table."""
    trace = base.scaled(scale, 0)
    names: tuple[str, ...] = NAMES
    if trace.requests > MANY_REQUESTS:
        names = FEWER if trace.requests > MOST_REQUESTS else FEW
    return make_plan(read_profile(PROFILES / f"{profile}.json"), trace, names, 0)


def header() -> str:
    """The head of the table."""
    titles = ["trace, profile, scale", "optimum USD", "standing start", "lookahead", "turnout"]
    titles += ["in time", "p99 ms", "GPU h"]
    titles += COLUMNS
    return "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)


def row(label: str, profile: str, scale: float, plan: Plan) -> str:
    """One row: regrets by policy; a policy that misses the objective is in brackets."""
    one = plan.outcomes["turnout"]
    cells = [
        f"{label}, {profile}, {scale:g}" + (", SnapStart" if plan.scenario.cloud.snap_start else ""),
        f"{plan.optimum_usd:.3f}",
        f"{plan.bounds.standing_usd / plan.optimum_usd:.2f}",
        f"{plan.bounds.lookahead_usd / plan.optimum_usd:.2f}",
        f"**{plan.regret('turnout'):.2f}**",
        f"{one.attainment:.2%}",
        f"{one.percentile_ms(99):.0f}",
        f"{one.gpu_hours:.2f}",
    ]
    for name in COLUMNS:
        if name not in plan.outcomes:
            cells.append("–")
            continue
        met = plan.outcomes[name].attainment >= plan.scenario.attainment
        cells.append(f"{plan.regret(name):.2f}" if met else f"({plan.regret(name):.2f})")
    return "| " + " | ".join(cells) + " |"
