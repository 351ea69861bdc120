"""Shadow requests: what the CPU answered is asked of the GPU too, later, to see whether they agree."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from handlers.errors import InvalidInput
from handlers.protocol.infer import encode_outputs, parse_outputs
from handlers.protocol.tensors import Tensor
from handlers.serving.postprocess import Scored, score

if TYPE_CHECKING:
    from handlers.serving.calls import Answer
    from handlers.serving.manifest import Manifest
    from handlers.serving.paths import GpuPath, Job

EVENT_KEY = "turnout_shadow"
TIMEOUT_S = 30.0
MAX_BYTES = 200_000
"""An asynchronous invocation takes 256 KB; what is larger, as base64, is not shadowed."""


class Comparison(NamedTuple):
    """How the two variants' answers to one request compare; `drift` is the mean distance of the values."""

    items: int
    agreed: int
    drift: float


def shadow_event(manifest: Manifest, job: Job, answer: Answer) -> dict[str, Any] | None:
    """The event for the asynchronous invocation, None for a job that is too large."""
    carried = [Tensor(s.name, s.dtype, a) for s, a in zip(manifest.tensors, job.arrays, strict=True)]
    body, size = encode_outputs([*carried, Tensor("cpu_values", "FP32", answer.scored.values)])
    if len(body) > MAX_BYTES * 3 // 4:
        return None
    text = base64.b64encode(body).decode("ascii")
    return {EVENT_KEY: {"release": manifest.release, "header": size, "body": text}}


def compare(event: Mapping[str, Any], manifest: Manifest, gpu: GpuPath) -> Comparison:
    """Ask the GPU and compare. Raises EndpointError; InvalidInput for an event of another release."""
    if event["release"] != manifest.release:
        raise InvalidInput("release", event["release"], manifest.release)
    tensors = parse_outputs(base64.b64decode(event["body"]), str(event["header"]))
    arrays = [tensors[spec.name].array for spec in manifest.tensors]
    raw = gpu.infer(arrays, TIMEOUT_S, "background")
    temperature = manifest.gpu.temperature if manifest.gpu is not None else 1.0
    heavy = score(raw, manifest.task, temperature)
    cpu = Scored(tensors["cpu_values"].array, heavy.confidence)
    return compared(cpu, heavy, manifest.task)


def compared(cpu: Scored, heavy: Scored, task: str) -> Comparison:
    """Agreement of labels (classification) or of values within 5 % of their spread (regression)."""
    distance = np.abs(cpu.values - heavy.values)
    if task == "classification":
        agreed = int((cpu.values.argmax(axis=1) == heavy.values.argmax(axis=1)).sum())
    else:
        spread = float(np.abs(heavy.values).max()) or 1.0
        agreed = int((distance.max(axis=1) <= 0.05 * spread).sum())
    return Comparison(len(heavy.values), agreed, float(distance.mean()))
