"""What a finished build is to the outside: a published release and a short account of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_build import release
from model_build.recipe import Recipe
from model_build.sources import ROOT


def releases_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`TURNOUT_RELEASES_DIR`, else `releases` in the project."""
    named = environment.get("TURNOUT_RELEASES_DIR")
    return Path(named) if named else ROOT / "releases"


def publish(recipe: Recipe, results: Mapping[str, Any], store: Path | None = None) -> Path:
    """Put the build's release into the store and make it the current one; returns its folder."""
    return release.publish(results["release"], recipe.name, store or releases_root())


def summary(recipe: Recipe, results: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON document of `turnout build --json`: accuracies on the test split, bytes, ms of one thread."""
    gated, evaluated, calibration = results["gate"], results["evaluate"], results["calibrate"]
    chosen, row = gated.chosen, results["profile"].by_threads[1][1]
    cascade = calibration.cascade
    variants: dict[str, Any] = {
        "gpu": {"accuracy": evaluated.gpu, "size_bytes": results["gpu-variant"].size_bytes},
        "cpu": {
            "accuracy": evaluated.cpu,
            "size_bytes": chosen.candidate.size_bytes,
            "latency_ms": {"p50": row.p50, "p95": row.p95, "p99": row.p99},
            "precision": chosen.candidate.precision,
            "scheme": chosen.candidate.name,
            "reason": gated.reason,
        },
    }
    reference = next((entry for entry in evaluated.rows if entry.name == "reference"), None)
    if reference is not None:
        variants["reference"] = {"accuracy": reference.score}
    return {
        "model": recipe.name,
        "release": results["release"].release,
        "metric": recipe.metric.name,
        "variants": variants,
        "threshold": cascade.threshold if cascade else None,
        "escalation_share": cascade.escalation_share if cascade else None,
        "cascade_accuracy": evaluated.cascade,
        "guarantee": {"epsilon": cascade.epsilon, "delta": cascade.delta} if cascade else None,
        "memory_mb": results["profile"].memory_mb,
        "isa_parity": {result.cpu: result.status for result in gated.isa.results},
    }
