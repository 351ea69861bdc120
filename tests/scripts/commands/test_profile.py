"""`turnout profile --gpu`: a small real program's curve, in a release of its own that becomes current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from handlers.errors import InvalidInput, ReleaseTampered
from handlers.routing.profile import Profile
from handlers.serving import manifest as manifests
from scripts.bench.gpu_models import write_release
from scripts.commands.profile import app

CPU: Mapping[str, Any] = {
    "memory_mb": 1769,
    "service_ms": {"p50": 1.0, "p95": 1.0, "p99": 2.0},
    "batch_ms": {"1": 1.0},
    "init_ms": 200,
    "accuracy": 0.9,
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one release of one model, which is current."""
    made = tmp_path / "made"
    name = write_release(made, nn.Linear(4, 2), torch.rand(2, 4), datatype="FP32", classes=2, model="tiny")
    home = tmp_path / "store" / "tiny"
    home.mkdir(parents=True)
    made.rename(home / name)
    (home / "current").write_text(name)
    return tmp_path / "store"


def invoke(store: Path, *words: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, list(words), env={"TURNOUT_RELEASES_DIR": str(store)})
    return result.exit_code, result.stdout, result.exception


def test_the_curve_is_in_a_new_release_that_differs_in_nothing_else(store: Path) -> None:
    before = (store / "tiny/current").read_text()
    code, out, _ = invoke(store, "tiny", "--gpu", "--device", "cpu", "--max-batch", "4", "--json")
    assert code == 0
    said = json.loads(out)
    after = (store / "tiny/current").read_text().strip()
    assert (said["from"], said["release"]) == (before, after)
    assert after != before
    old, new = (
        json.loads((store / "tiny" / name / "manifest.json").read_bytes()) for name in (before, after)
    )
    manifests.verify(store / "tiny" / after, manifests.load(store / "tiny" / after))
    gpu = new["profile"].pop("gpu")
    assert new == old
    assert list(gpu["batch_ms"]) == ["1", "2", "4"]
    assert all(ms > 0 for ms in gpu["batch_ms"].values())
    assert (gpu["max_batch"], gpu["device"]) == (4, "cpu")
    whole = gpu | {"max_wait_ms": 2, "startup_s": 240, "accuracy": 0.9}  # what the build adds
    read = Profile.parse({"name": "tiny", "cpu": CPU, "gpu": whole, "network_ms": CPU["service_ms"]})
    assert read.gpu is not None
    assert read.gpu.batch_ms == {int(size): ms for size, ms in gpu["batch_ms"].items()}


def test_a_person_sees_items_a_second_by_batch_size(store: Path) -> None:
    code, out, _ = invoke(store, "tiny", "--gpu", "--device", "cpu", "--max-batch", "2")
    assert code == 0
    assert "items/s" in out
    assert "batch    2" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("tiny",), "--gpu"),
        (("tiny", "--gpu", "--engine", "tensorrt"), "--engine"),
        (("none", "--gpu"), "none"),
    ],
)
def test_what_cannot_be_profiled_is_named(store: Path, words: tuple[str, ...], named: str) -> None:
    code, _, error = invoke(store, *words)
    assert code == 1
    assert isinstance(error, InvalidInput)
    assert named in str(error)


def test_a_tampered_program_is_not_profiled(store: Path) -> None:
    release = (store / "tiny/current").read_text()
    program = store / "tiny" / release / "gpu/model.pt2"
    content = program.read_bytes()
    program.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    _, _, error = invoke(store, "tiny", "--gpu", "--device", "cpu")
    assert isinstance(error, ReleaseTampered)
    assert [path.name for path in (store / "tiny").iterdir() if path.is_dir()] == [release]
