"""What is planned for, taken from a release that was built and the stage that it is deployed to."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from handlers.errors import InvalidInput, PointerMissing
from handlers.routing.economics import Economics
from handlers.routing.profile import Profile
from handlers.routing.snapshot import Cascade, CurvePoint
from handlers.serving import manifest
from infra import config
from infra.environment import memory_mb
from infra.prices.table import load_prices

from .scenario import Cloud, Scenario, SnapStart


def from_release(model: str, stage_name: str, releases: Path | None = None) -> Scenario:
    """The scenario of a model's current release at a stage's prices, in the function of turnout.toml."""
    settings = config.load()
    wanted, stage = settings.model(model), settings.stage(stage_name)
    store = releases or Path(os.environ.get("TURNOUT_RELEASES_DIR", "releases"))
    pointer = store / model / "current"
    if not pointer.is_file():
        raise PointerMissing(f"{model} has no release in {store}: run `turnout build {model}`, or --profile")
    release = manifest.load(store / model / pointer.read_text().strip())
    memory = memory_mb(model, wanted, store)
    profile = replace(Profile.parse(release.profile), name=model).at(memory)
    table = load_prices(stage.region)
    architecture = "x86_64" if stage.architecture == "x86_64" else "arm64"
    economics = Economics(
        lambda_gb_s=table.usd(f"lambda.{architecture}.gb_s"),
        lambda_request=table.usd("lambda.request"),
        front_door_request=table.usd(f"apigateway.{stage.api}.request"),
        model_memory_mb=memory,
        front_memory_mb=wanted.front_memory_mb,
        gpu_hour=0.0 if wanted.gpu is None else table.instance(wanted.gpu.instance_type).usd_per_hour,
        missed_escalation_usd=0.0 if wanted.gpu is None else wanted.gpu.missed_escalation_usd,
    )
    return Scenario(
        profile=profile,
        economics=economics,
        latency_slo_ms=wanted.latency_slo_ms,
        attainment=wanted.attainment,
        cascade=_cascade(release.cascade),
        max_instances=0 if wanted.gpu is None else wanted.gpu.max_instances,
        cloud=Cloud(snap_start=SnapStart() if stage.snapstart else None),
        recipe=wanted.recipe,
        instance_type="" if wanted.gpu is None else wanted.gpu.instance_type,
    )


def _cascade(stated: manifest.Cascade | None) -> Cascade | None:
    if stated is None:
        return None
    points = tuple(CurvePoint(p.threshold, p.escalation_share, p.accuracy) for p in sorted(stated.curve))
    return Cascade(stated.threshold, stated.escalation_share, stated.accuracy, points)


def with_gpu(scenario: Scenario, instance_type: str, region: str = "us-east-1") -> Scenario:
    """The same on another instance type's price; its speed is still the profile's, which the plan says."""
    if scenario.profile.gpu is None:
        raise InvalidInput("--gpu", instance_type, "a profile with a gpu section")
    priced = scenario.priced(gpu_hour=load_prices(region).instance(instance_type).usd_per_hour)
    return replace(priced, instance_type=instance_type)
