"""From trained networks to a published release: a classification and a regression, every step real."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from handlers.errors import BuildError, InvalidInput, ReleaseTampered
from handlers.serving import manifest as manifests
from model_build import build, pipeline, release, shelf, triton
from model_build.cache import Cache
from model_build.metric import R2
from model_build.recipe import (
    Distillation,
    Gates,
    Guarantee,
    Pruning,
    Recipe,
    Sample,
    Split,
    Splits,
    TensorSpec,
    Training,
)
from model_build.session import outputs_of
from model_build.steps import STEPS

POINT = TensorSpec("point", "FP32", (-1, 4))
pytestmark = pytest.mark.slow


class Net(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layers(point)
        return answer


def classifier() -> nn.Module:
    return Net(32, 2)


def regressor() -> nn.Module:
    return Net(32, 1)


def split(rows: int, seed: int, task: str) -> Split:
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(rows, 4)).astype(np.float32)
    value = (points.sum(axis=1, keepdims=True) + 0.1 * draw.normal(size=(rows, 1))).astype(np.float32)
    return Split((points,), value if task == "regression" else (value[:, 0] > 0).astype(np.int64))


def splits(task: str) -> Splits:
    test = split(200, 4, task)
    classes = task == "classification"
    labels = [("no", "yes")[t] if classes else tuple(t.tolist()) for t in test.targets[:10]]
    samples = tuple(Sample((test.tensors[0][row],), label) for row, label in enumerate(labels))
    sizes = {"train": 400, "validation": 100, "calibration": 64, "threshold": 300}
    parts = {name: split(rows, seed, task) for seed, (name, rows) in enumerate(sizes.items())}
    return Splits(**parts, test=test, samples=samples)


def classification_data() -> Splits:
    return splits("classification")


def regression_data() -> Splits:
    return splits("regression")


TRAINING = Training(epochs=20, batch_size=32, learning_rate=1e-2)
CLASSIFICATION = Recipe(
    name="points", task="classification", labels=("no", "yes"), inputs=(POINT,), tensors=(POINT,),
    data=classification_data, teacher=classifier, student=classifier, teacher_training=TRAINING,
    student_training=TRAINING, guarantee=Guarantee(0.05), gates=Gates(max_drop=0.05),
)  # fmt: skip
REGRESSION = replace(
    CLASSIFICATION, name="sums", task="regression", labels=(), metric=R2, data=regression_data,
    teacher=regressor, student=regressor, distillation=Distillation(weight=0.5),
    pruning=Pruning(ratios=(0.5,), training=TRAINING),
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Recipe, dict[str, Any], Cache]]:
    torch.set_num_threads(1)
    found = {}
    for recipe in (CLASSIFICATION, REGRESSION):
        cache = Cache(tmp_path_factory.mktemp("cache") / recipe.name)
        data = recipe.data()
        results = pipeline.run(recipe, data, pipeline.plan(recipe, data, STEPS, cache), cache)
        found[recipe.name] = (recipe, dict(results), cache)
    return found


@pytest.fixture
def store(built, tmp_path: Path) -> Path:
    for recipe, results, _cache in built.values():
        release.publish(results["release"], recipe.name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", ["points", "sums"])
def test_a_release_is_whole_and_named_by_its_content(store: Path, model: str) -> None:
    folder = shelf.find(store, model).folder
    manifest = manifests.load(folder)
    assert folder.name == manifest.release == (store / model / "current").read_text().strip()
    manifests.verify(folder, manifest)
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*manifest.files, "manifest.json"}
    assert len(json.loads((folder / "samples.json").read_bytes())["samples"]) == 10


def test_a_classification_has_a_cascade_with_a_guarantee_and_a_regression_has_none(store: Path) -> None:
    points, sums = (manifests.load(shelf.find(store, model).folder) for model in ("points", "sums"))
    assert points.cascade is not None
    assert (points.cascade.epsilon, points.cascade.delta) == (0.05, 0.05)
    assert [spec.name for spec in points.outputs] == ["probabilities", "label", "confidence"]
    assert sums.cascade is None
    assert sums.graph_output.name == "value"
    assert sums.graph_output.shape == (-1, 1)


@pytest.mark.parametrize("model", ["points", "sums"])
def test_the_packaged_graph_scores_what_the_manifest_says(store: Path, model: str) -> None:
    shelved = shelf.find(store, model)
    recipe = CLASSIFICATION if model == "points" else REGRESSION
    test = recipe.data().test
    outputs = outputs_of(shelved.folder / "cpu/model.onnx", test.tensors)
    stated = shelved.document["variants"]["cpu"]["accuracy"]
    assert recipe.metric.score(outputs, test.targets) == pytest.approx(stated, abs=1e-6)


def test_a_cached_rerun_gives_the_same_release(built) -> None:
    recipe, results, cache = built["points"]
    data = recipe.data()
    planned = pipeline.plan(recipe, data, STEPS, cache)
    assert all(item.cached for item in planned)
    assert pipeline.run(recipe, data, planned, cache)["release"] == results["release"]


def test_publishing_twice_changes_nothing(built, store: Path) -> None:
    recipe, results, _cache = built["points"]
    before = sorted((store / "points").iterdir())
    release.publish(results["release"], recipe.name, store)
    assert sorted((store / "points").iterdir()) == before


def test_a_published_release_that_was_changed_is_not_taken_for_good(built, store: Path) -> None:
    recipe, results, _cache = built["points"]
    graph = shelf.find(store, "points").folder / "cpu/model.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ReleaseTampered, match=r"cpu/model\.onnx: sha256"):
        release.publish(results["release"], recipe.name, store)
    with pytest.raises(ReleaseTampered):
        shelf.find(store, "points")


def test_the_pointer_never_names_what_is_not_there(store: Path) -> None:
    with pytest.raises(BuildError, match="not in"):
        release.set_current(store / "points", "0123456789abcdef")


@pytest.mark.parametrize("model", ["points", "sums"])
def test_the_report_stands_alone_and_is_well_formed(store: Path, model: str) -> None:
    text = (shelf.find(store, model).folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=|url\(|https?://|<script", text)
    assert text.count("<svg") == text.count("</svg>") >= (6 if model == "points" else 3)
    assert text.count("<table") == text.count("</table>")
    assert re.search(r"On unseen data.*student, labels only", text, re.DOTALL)
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text).lower().split()
    for heading in (
        "What each step bought",
        "Every candidate tried",
        "Memory size, latency and cost",
        "Checks",
    ):
        assert heading in text


def test_the_shelf_lists_finds_and_compares(store: Path) -> None:
    entries = shelf.listed(store)
    assert [(entry.model, entry.current) for entry in entries] == [("points", True), ("sums", True)]
    assert shelf.listed(store, "sums")[0].gpu_accuracy is not None
    points = shelf.find(store, entries[0].release[:6])
    changes = shelf.compared(points, points)
    assert {change.words for change in changes} == {"same"}
    with pytest.raises(InvalidInput, match="a release of points"):
        shelf.compared(points, shelf.find(store, "sums"))


def test_the_table_of_current_releases_goes_between_a_pages_marks(store: Path) -> None:
    table = shelf.table(store)
    head, rule, points, sums = table.splitlines()
    assert head.count("|") == rule.count("|") == points.count("|") == sums.count("|")
    assert points.startswith("| points | ")
    assert points.endswith("| at most 5 points, 95% |")
    assert sums.endswith("| – | – |")
    page = "before\n<!-- releases -->\nold\n<!-- /releases -->\nafter\n"
    once = shelf.rewritten(page, table)
    assert once == f"before\n<!-- releases -->\n{table}<!-- /releases -->\nafter\n"
    assert shelf.rewritten(once, table) == once
    with pytest.raises(InvalidInput, match="<!-- releases -->"):
        shelf.rewritten("nothing here", table)


@pytest.mark.parametrize("model", ["points", "sums"])
def test_a_built_model_has_a_sound_triton_repository(built, model: str, tmp_path: Path) -> None:
    recipe, _results, cache = built[model]
    data = recipe.data()
    ready = build.Ready(recipe, data, pipeline.plan(recipe, data, STEPS, cache), cache)
    home, exported = triton.repository_of(ready, tmp_path)
    assert triton.check(home) == []
    assert exported.parity.max_rel < 1e-4
    assert f'name: "{recipe.output_name}"' in (home / "config.pbtxt").read_text()
    empty = build.Ready(recipe, data, pipeline.plan(recipe, data, STEPS, Cache(tmp_path / "none")), cache)
    with pytest.raises(BuildError, match=f"run: turnout build {model}"):
        triton.repository_of(empty, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["nothing", "zz"])
def test_an_unknown_release_is_refused_with_what_there_is(store: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=rf"'{name}' is not allowed.*points, sums"):
        shelf.find(store, name)


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="turnout build digits"):
        shelf.find(tmp_path / "none", "x")
    assert shelf.listed(tmp_path / "none") == []


def test_wire_bytes_that_are_not_text_travel_in_base64() -> None:
    spec = TensorSpec("wav", "BYTES", (-1, 1))
    text, sound = (
        release.samples_document((spec,), [Sample((raw,), "x")]) for raw in (b"good", b"RIFF\xff\x00")
    )
    assert text["samples"][0]["inputs"][0]["data"] == ["good"]
    assert sound["samples"][0]["inputs"][0]["parameters"] == {"encoding": "base64"}


def test_a_half_copied_release_is_never_seen(built, tmp_path: Path) -> None:
    # Given a release folder that loses a file between build and publishing
    _recipe, results, _cache = built["sums"]
    copy = tmp_path / "release"
    shutil.copytree(results["release"].folder, copy)
    (copy / "gpu/model.pt2").unlink()
    # When it is published
    broken = release.Released(copy, results["release"].release)
    with pytest.raises(ReleaseTampered, match="missing"):
        release.publish(broken, "sums", tmp_path / "store")
    # Then the store has neither a folder nor a pointer
    assert list((tmp_path / "store" / "sums").iterdir()) == []
