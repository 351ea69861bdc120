"""The snapshot that holds before any was published is for the memory that the model's function has."""

from __future__ import annotations

import json

import pytest

from handlers.routing.profile import Profile
from handlers.routing.types import Economics
from handlers.serving import manifest as manifests
from handlers.serving import preprocess
from handlers.serving.defaults import default_snapshot
from handlers.serving.release import Served
from handlers.settings import Settings
from tests.handlers.conftest import ECONOMICS, document

TABLE = [
    {"memory_mb": 512, "p50": 0.7, "p95": 9.0, "p99": 15.0, "init_ms": 600.0},
    {"memory_mb": 1769, "p50": 0.2, "p95": 0.4, "p99": 0.8, "init_ms": 200.0},
]


def settings(role: str, memory_mb: int) -> Settings:
    named = {"MODEL": "tiny", "BUCKET": "b", "POINTER": "p", "LATENCY_SLO_MS": "200", "ROLE": role}
    function = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb), "TURNOUT_MODEL_FUNCTION": "tiny:live"}
    told = {f"TURNOUT_{name}": value for name, value in named.items()}
    return Settings.from_env({**told, **function, "TURNOUT_ECONOMICS": json.dumps(ECONOMICS)})


@pytest.mark.parametrize(
    ("role", "own_mb", "model_mb", "p99"),
    [("colocated", 1769, 1769, 0.8), ("colocated", 512, 512, 15.0), ("front", 256, 1769, 0.8)],
)
def test_it_predicts_what_was_measured_at_the_models_memory(
    role: str, own_mb: int, model_mb: int, p99: float
) -> None:
    # Given a release that was sized for 512 MB
    raw = document(b"")
    raw["profile"]["cpu"] |= {"memory_mb": 512, "memory_table": TABLE, "init_ms": 600.0}
    raw["profile"]["cpu"]["service_ms"] = {"p50": 0.7, "p95": 9.0, "p99": 15.0}
    manifest = manifests.parse(json.dumps(raw).encode())
    transform = preprocess.build(manifest.preprocess, lambda _: b"")
    served = Served(manifest, Profile.parse(manifest.profile), transform, None)
    # When the function is of another size, a front of its own beside it
    economics = Economics.parse({**ECONOMICS, "model_memory_mb": model_mb})
    latencies = default_snapshot(served, settings(role, own_mb), economics).latencies
    # Then what it expects of the CPU is that size's
    assert latencies.cpu.curve(1).at(0.99) == pytest.approx(p99)
    assert latencies.init_ms == {512: 600.0, 1769: 200.0}[model_mb]
