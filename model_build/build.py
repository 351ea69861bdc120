"""One whole build: check everything that can be checked early, run the steps, publish the release."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.serving import manifest as manifests
from model_build import cache, data, pipeline, train
from model_build.calibrate import check_size
from model_build.evaluate import Evaluated
from model_build.recipe import Recipe, Splits
from model_build.release import Released, publish
from model_build.step import Step
from model_build.steps import STEPS
from model_build.trained import Trained


@dataclass(frozen=True, slots=True)
class Ready:
    """A build that may begin: checked data and the plan."""

    recipe: Recipe
    splits: Splits
    planned: tuple[pipeline.Planned, ...]
    cache: cache.Cache


@dataclass(frozen=True, slots=True)
class Built:
    """A published release and the results of every step by name."""

    folder: Path
    results: Mapping[str, Any]


def releases(environment: Mapping[str, str] = os.environ) -> Path:
    """`TURNOUT_RELEASES_DIR`, else `releases` in the working directory."""
    return Path(environment.get("TURNOUT_RELEASES_DIR") or "releases")


def prepare(recipe: Recipe, root: Path | None = None, steps: Sequence[Step] = STEPS) -> Ready:
    """Loads and checks data and networks, plans the steps; raises BuildError before anything is trained."""
    splits = data.load(recipe)
    if recipe.task == "classification":
        check_size(len(splits.threshold), recipe.guarantee.epsilon, recipe.guarantee.delta)
    train.check_networks(recipe, splits)
    store = cache.Cache((root or cache.root()) / recipe.name)
    return Ready(recipe, splits, pipeline.plan(recipe, splits, steps, store), store)


def build(ready: Ready, watch: pipeline.Watch | None = None, store: Path | None = None) -> Built:
    """Runs the plan and publishes the release to `store`/model."""
    with cache.locked(ready.cache):
        results = pipeline.run(ready.recipe, ready.splits, ready.planned, ready.cache, watch)
        released: Released = results["release"]
        return Built(publish(released, ready.recipe.name, store or releases()), results)


def summary(built: Built) -> dict[str, Any]:
    """What `turnout build --json` prints: the manifest's numbers, and the reference network's."""
    document = json.loads((built.folder / manifests.MANIFEST_NAME).read_bytes())
    variants = {
        name: {key: document["variants"][name][key] for key in ("accuracy", "size_bytes", "precision")}
        for name in ("gpu", "cpu")
    }
    variants["cpu"]["latency_ms"] = document["profile"]["cpu"]["service_ms"]
    reference: Trained | None = built.results["reference"]
    if reference is not None:
        evaluated: Evaluated = built.results["evaluate"]
        row = next(row for row in evaluated.rows if row.name == "reference")
        variants["reference"] = {"accuracy": row.score, "parameters": reference.parameters}
    cascade = document["cascade"] or {}
    return {
        "model": document["model"],
        "release": built.folder.name,
        "metric": document["metric"],
        "variants": variants,
        "reason": document["variants"]["cpu"]["reason"],
        "threshold": cascade.get("threshold"),
        "escalation_share": cascade.get("escalation_share"),
        "cascade_accuracy": cascade.get("accuracy"),
        "guarantee": {"epsilon": cascade.get("epsilon"), "delta": cascade.get("delta")},
    }
