"""The batch-latency curve of a gpu variant as its server measures it, written into a release of its own.

A release is named by its content, so a new curve makes a new release beside the old one; every other file is
the same. The curve is what the server's own worker measures in its warm-up, on the device that is there.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.errors import ReleaseError
from handlers.serving import manifest as manifests


@dataclass(frozen=True, slots=True)
class GpuCurve:
    """Milliseconds by batch size on `device`; `load_s` and `warm_up_s` are part of an instance's start-up."""

    device: str
    batch_ms: dict[int, float]
    load_s: float
    warm_up_s: float


def measure(folder: Path, device: str = "auto", engine: str = "eager", max_batch: int = 32) -> GpuCurve:
    """Load the release's gpu variant as the server does and time every bucket.

    Raises ReleaseError when it has none, or does not match its manifest.
    """
    from model_build.gpu_server import spec as specs
    from model_build.gpu_server.batching import buckets
    from model_build.gpu_server.worker import Orders, start_up

    manifest = manifests.load(folder)
    if manifest.gpu is None:
        raise ReleaseError(f"release {manifest.release} has no gpu variant to profile")
    manifests.verify(folder, manifest, (manifest.gpu.file,))
    orders = Orders(
        path=str(folder / manifest.gpu.file),
        device=device,
        engine=engine,
        precision="release",
        sizes=buckets(max_batch),
        padded=False,
        threads=1,
        pinned=True,
        cuda_graphs=True,
        overlap=True,
    )
    _, curve, ready = start_up(orders, specs.from_manifest(manifest))
    measured = dict(zip(curve.sizes, curve.ms, strict=True))
    return GpuCurve(ready["device"], measured, ready["load_s"], ready["warm_up_s"])


def with_curve(document: dict[str, Any], curve: GpuCurve) -> dict[str, Any]:
    """The manifest with the curve in `profile.gpu`; start-up time and accuracy stay as they are."""
    profile = dict(document["profile"])
    batch_ms = {str(size): round(ms, 4) for size, ms in curve.batch_ms.items()}
    gpu = dict(profile.get("gpu", {})) | {
        "batch_ms": batch_ms,
        "max_batch": max(curve.batch_ms),
        "device": curve.device,
    }
    return {**document, "profile": {**profile, "gpu": gpu}}


def write_release(folder: Path, curve: GpuCurve) -> Path:
    """A release beside `folder` that holds the curve; returns its folder. Nothing half-written stays.

    Raises ReleaseTampered when a file of `folder` is not what its manifest states.
    """
    manifests.verify(folder, manifests.load(folder))
    document = json.loads((folder / manifests.MANIFEST_NAME).read_bytes())
    content = manifests.canonical(with_curve(document, curve))
    target = folder.parent / manifests.release_id(content)
    if target.exists():
        return target
    staging = Path(tempfile.mkdtemp(prefix=".profile-", dir=folder.parent))
    try:
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        (staging / manifests.MANIFEST_NAME).write_bytes(content)
        staging.chmod(0o755)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return target
