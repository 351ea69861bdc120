"""Given a snapshot, when it is written and read, then nothing is lost; and nothing broken is taken."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from handlers.errors import InvalidInput
from handlers.routing.codec import MAX_BYTES, from_json, to_json, usable
from handlers.routing.policy import decide
from handlers.routing.types import Local, Topology

from .builders import CASCADE, request, snapshot


def test_round_trip_keeps_what_decides() -> None:
    before = snapshot(CASCADE, gpu_ready=2, now=1_000.0)
    after = from_json(to_json(before))
    assert to_json(after) == to_json(before)
    assert after.cascade == before.cascade
    one, two = (decide(request(), s, Local(), 0.0) for s in (before, after))
    assert one.path is two.path
    assert one.cost_usd == pytest.approx(two.cost_usd, rel=1e-5)


def test_a_snapshot_without_gpu_survives_too() -> None:
    before = replace(snapshot(), gpu=None)
    assert from_json(to_json(before)).gpu is None


def _broken(**changes: Any) -> str:
    raw = json.loads(to_json(snapshot(CASCADE, gpu_ready=1)))
    for path, value in changes.items():
        target = raw
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("not json", "snapshot"),
        ("[]", "snapshot.schema_version"),
        ("{}", "snapshot.schema_version"),
        (_broken(schema_version=2), "snapshot.schema_version"),
        (_broken(policy="cheapest"), "policy"),
        (_broken(topology="sideways"), "snapshot"),
        (_broken(version=-1), "snapshot.version"),
        (_broken(model=7), "snapshot.model"),
        (_broken(ttl_s=float("nan")), "snapshot.ttl_s"),
        (_broken(economics__lambda_gb_s=-1.0), "economics.lambda_gb_s"),
        (_broken(latencies__cpu=[[1, [1.0]]]), "snapshot"),
        (_broken(latencies__cpu=[[2, [1.0] * 8]]), "snapshot"),
        (_broken(latencies__cpu=[[1, [2.0, 1.0, *[3.0] * 6]]]), "snapshot"),
        (_broken(latencies__cold_share="often"), "snapshot.latencies.cold_share"),
        (_broken(gpu__ready=-1), "snapshot.gpu.ready"),
        (_broken(gpu__batch_ms=[]), "snapshot.gpu"),
        (_broken(cascade={"threshold": 1}), "cascade"),
        (" " * (MAX_BYTES + 1), "snapshot"),
    ],
)
def test_a_broken_body_is_refused_with_the_field(body: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_json(body)
    assert refused.value.field == field


def test_a_missing_field_is_refused() -> None:
    raw = json.loads(to_json(snapshot()))
    del raw["latencies"]
    with pytest.raises(InvalidInput, match="latencies"):
        from_json(json.dumps(raw))


def test_stale_missing_or_foreign_means_the_default() -> None:
    default = snapshot(now=0.0)
    published = snapshot(gpu_ready=1, now=1_000.0, ttl_s=300.0)
    assert usable(published, default, now=1_299.0) is published
    assert usable(published, default, now=1_301.0) is default
    assert usable(None, default, now=0.0) is default
    assert usable(replace(published, release="another"), default, now=1_001.0) is default


def test_a_function_predicts_with_the_topology_that_it_is_part_of() -> None:
    front = snapshot(topology=Topology.SPLIT)
    assert usable(snapshot(now=0.0), front, now=1.0).topology is Topology.SPLIT
