"""What the functions are told and given, from turnout.toml and the releases at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import InvalidConfig
from infra.config import load
from infra.environment import memory_mb, memory_notice

AUTO = load().models["digits"]
STATED = AUTO.model_copy(update={"memory_mb": 1769})


def row(memory_mb: int, p99: float, init_ms: float, usd: float) -> dict[str, Any]:
    times = {"p50": p99, "p95": p99, "p99": p99, "init_ms": init_ms}
    told = {"vcpu": memory_mb / 1769, "threads": 1, "modelled": False, "fits": True}
    return {"memory_mb": memory_mb, **times, "usd_per_million": usd, **told}


TABLE = [row(512, 150, 450, 0.3), row(1024, 50, 140, 0.4), row(1769, 20, 80, 0.5)]


def measured(folder: Path, table: Any) -> Path:
    """A store whose current release of digits measured `table`."""
    release = folder / "digits" / "0123456789abcdef"
    release.mkdir(parents=True)
    (folder / "digits" / "current").write_text(f"{release.name}\n")
    (release / "manifest.json").write_text(json.dumps({"profile": {"cpu": {"memory_table": table}}}))
    return folder


@pytest.mark.parametrize(("slo_ms", "taken"), [(200.0, 1024), (110.0, 1769), (700.0, 512)])
def test_auto_memory_is_the_cheapest_at_which_the_release_keeps_the_stages_objective(
    tmp_path: Path, slo_ms: float, taken: int
):
    store = measured(tmp_path, TABLE)
    model = AUTO.model_copy(update={"latency_slo_ms": slo_ms})
    assert (memory_mb("digits", model, store), memory_notice("digits", model, store)) == (taken, None)
    # And what turnout.toml states is not asked of any release
    assert (memory_mb("digits", STATED, store), memory_notice("digits", STATED, tmp_path / "none")) == (
        1769,
        None,
    )


def test_auto_memory_without_a_release_is_one_vcpus_and_says_so(tmp_path: Path):
    assert memory_mb("digits", AUTO, tmp_path) == 1769
    assert "1769 MB (one vCPU) until `turnout build digits`" in (
        memory_notice("digits", AUTO, tmp_path) or ""
    )


def test_an_objective_that_no_size_keeps_is_refused_with_the_fastest(tmp_path: Path):
    model = AUTO.model_copy(update={"latency_slo_ms": 10.0})
    with pytest.raises(InvalidConfig, match=r"digits\.memory_mb: 'auto' .* the fastest, 1769 MB, takes"):
        memory_mb("digits", model, measured(tmp_path, TABLE))


@pytest.mark.parametrize("table", [None, [{"memory_mb": 512}]])
def test_a_release_whose_table_cannot_be_read_is_refused(tmp_path: Path, table: Any):
    with pytest.raises(InvalidConfig, match=r"profile\.cpu\.memory_table.* `turnout build digits` writes"):
        memory_mb("digits", AUTO, measured(tmp_path, table))
