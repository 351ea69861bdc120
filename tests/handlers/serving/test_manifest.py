"""A manifest is read strictly, named by its content, and catches every changed byte."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from handlers.errors import ReleaseError, ReleaseTampered
from handlers.serving import manifest as manifests

MODEL_BYTES = b"graph"
DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "model": "digits",
    "task": "classification",
    "metric": "accuracy",
    "labels": ["a", "b"],
    "toolchain": {"onnxruntime": "1.32.0"},
    "inputs": [{"name": "image", "dtype": "FP32", "shape": [-1, 4]}],
    "preprocess": {"kind": "none"},
    "tensors": [{"name": "image", "dtype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]}],
    "graph_output": {"name": "logits", "dtype": "FP32", "shape": [-1, 2]},
    "variants": {
        "cpu": {
            "file": "cpu/model.onnx",
            "precision": "int8",
            "opset": 20,
            "ort_min": "1.32.0",
            "accuracy": 0.97,
            "size_bytes": 5,
            "temperature": 1.1,
            "load_optimisation": "off",
        }
    },
    "cascade": {
        "threshold": 0.8,
        "escalation_share": 0.1,
        "accuracy": 0.98,
        "epsilon": 0.02,
        "delta": 0.05,
        "agreement": 0.99,
        "curve": [{"threshold": 0.5, "escalation_share": 0.01, "accuracy": 0.97}],
    },
    "profile": {"cpu": {"memory_mb": 1769}},
    "samples": None,
    "files": {"cpu/model.onnx": {"sha256": hashlib.sha256(MODEL_BYTES).hexdigest(), "bytes": 5}},
}


def changed(path: str, value: Any) -> bytes:
    document = copy.deepcopy(DOCUMENT)
    target: Any = document
    *parents, last = path.split("/")
    for key in parents:
        target = target[int(key)] if isinstance(target, list) else target[key]
    target[last] = value
    return manifests.canonical(document)


def write_release(folder: Path, content: bytes = MODEL_BYTES) -> manifests.Manifest:
    (folder / "cpu").mkdir()
    (folder / "cpu/model.onnx").write_bytes(content)
    (folder / manifests.MANIFEST_NAME).write_bytes(manifests.canonical(DOCUMENT))
    return manifests.load(folder)


def test_GIVEN_a_manifest_WHEN_parsed_THEN_every_field_is_typed_and_the_id_is_its_hash() -> None:
    raw = manifests.canonical(DOCUMENT)

    manifest = manifests.parse(raw)

    assert manifest.release == hashlib.sha256(raw).hexdigest()[:16] == manifests.release_id(raw)
    assert manifest.cpu.load_optimisation == "off"
    assert manifest.gpu is None
    assert manifest.cascade is not None
    assert manifest.cascade.curve[0].threshold == 0.5
    assert manifest.inputs[0] == manifests.TensorSpec("image", "FP32", (-1, 4))


def test_GIVEN_equal_content_WHEN_made_canonical_THEN_the_bytes_are_equal() -> None:
    reversed_keys = dict(reversed(DOCUMENT.items()))

    assert manifests.canonical(reversed_keys) == manifests.canonical(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("schema_version", 2, "schema_version: 2"),
        ("model", "", "model: ''"),
        ("task", "poetry", "task: 'poetry'"),
        ("labels", ["a"], "labels: 1"),
        ("variants", {}, "variants: []"),
        ("inputs", [], "inputs: []"),
        ("inputs/0/dtype", "FP8", "inputs[0].dtype: 'FP8'"),
        ("inputs/0/shape", [4], "inputs[0].shape: [4]"),
        ("inputs/0/shape", [-1, "x"], "inputs[0].shape"),
        ("variants/cpu/temperature", 0, "variants.cpu.temperature: 0"),
        ("variants/cpu/file", "gpu/other", "variants.cpu.file: 'gpu/other'"),
        ("variants/cpu/load_optimisation", "most", "variants.cpu.load_optimisation: 'most'"),
        ("cascade/threshold", 1.5, "cascade.threshold: 1.5"),
        ("cascade/delta", True, "cascade.delta: True"),
        ("preprocess/kind", "magic", "preprocess.kind: 'magic'"),
        ("preprocess", {"kind": "text", "vocabulary": "cpu/model.onnx"}, "preprocess.max_tokens: None"),
        ("preprocess", {"kind": "wav", "sample_rate": 8000, "max_seconds": 0}, "preprocess.max_seconds: 0"),
        ("files", {"../escape": {"sha256": "0" * 64, "bytes": 1}}, "files: '../escape'"),
        ("files", {"cpu/model.onnx": {"sha256": "short", "bytes": 1}}, "files[cpu/model.onnx].sha256"),
        ("profile", [], "profile: []"),
    ],
)
def test_GIVEN_one_wrong_field_WHEN_parsed_THEN_the_error_names_it(path: str, value: Any, field: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        manifests.parse(changed(path, value))

    assert field in str(caught.value)
    assert "allowed:" in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff"])
def test_GIVEN_no_json_object_WHEN_parsed_THEN_a_release_error(raw: bytes) -> None:
    with pytest.raises(ReleaseError):
        manifests.parse(raw)


def test_GIVEN_infinity_WHEN_made_canonical_THEN_it_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifests.canonical({"x": float("inf")})
    with pytest.raises(ReleaseError, match=r"variants\.cpu\.accuracy"):
        manifests.parse(json.dumps(DOCUMENT).replace("0.97,", "Infinity,", 1).encode())


def test_GIVEN_an_intact_release_WHEN_verified_THEN_nothing_is_raised(tmp_path: Path) -> None:
    manifests.verify(tmp_path, write_release(tmp_path))


@pytest.mark.parametrize("content", [b"grapH", b"grap", b"graphs"])
def test_GIVEN_one_byte_changed_WHEN_verified_THEN_tampered_names_the_file(
    tmp_path: Path, content: bytes
) -> None:
    manifest = write_release(tmp_path, content)

    with pytest.raises(ReleaseTampered, match=r"cpu/model\.onnx"):
        manifests.verify(tmp_path, manifest)


def test_GIVEN_a_missing_file_or_manifest_WHEN_checked_THEN_a_release_error(tmp_path: Path) -> None:
    manifest = write_release(tmp_path)
    (tmp_path / "cpu/model.onnx").unlink()

    with pytest.raises(ReleaseTampered, match="missing"):
        manifests.verify(tmp_path, manifest)
    with pytest.raises(ReleaseError, match="no such file"):
        manifests.load(tmp_path / "nowhere")
