"""From raw logits to the answer on the wire: calibrated probabilities, labels, confidence."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.protocol.tensors import Output, Tensor
    from handlers.serving.manifest import Manifest


FEW = 32
"""Up to so many numbers Python's own floats are sooner done with than numpy's functions, each of which must
come into the processor's caches again between two requests: 8 µs for the scores of one item, not 18."""


class Scored(NamedTuple):
    """`values`: probabilities [items, K] or regression [items, D]; `confidence`: [items].

    The confidence of a regression is 1, for it is unknown; NaN is that of values which are not finite.
    """

    values: NDArray[np.float32]
    confidence: NDArray[np.float32]


def score(raw: NDArray[np.float32], task: str, temperature: float) -> Scored:
    """Temperature-scaled softmax for a classification; a regression's values as they are."""
    if task == "regression":
        return _regression(raw)
    if raw.size <= FEW and len(raw) == 1:
        return _one_row(raw, temperature)
    scaled = raw - np.maximum.reduce(raw, axis=1, keepdims=True)
    if temperature != 1.0:
        scaled /= temperature
    np.exp(scaled, scaled)
    total = np.add.reduce(scaled, axis=1, keepdims=True)
    scaled /= total
    # The largest exponential is exp(0) = 1, so the largest probability is one over the sum.
    return Scored(scaled, np.reciprocal(total[:, 0]))


def _one_row(raw: NDArray[np.float32], temperature: float) -> Scored:
    (logits,) = raw.tolist()
    highest = max(logits)
    weights = [exp((logit - highest) / temperature) for logit in logits]
    total = sum(weights)
    values = np.array([[weight / total for weight in weights]], dtype=np.float32)
    return Scored(values, values[:, logits.index(highest)])


def _regression(values: NDArray[np.float32]) -> Scored:
    finite = np.isfinite(values).all(axis=1)
    return Scored(values, np.where(finite, np.float32(1), np.float32(np.nan)))


def merged(cpu: Scored, gpu: Scored, rows: NDArray[np.intp]) -> Scored:
    """The cpu answers with those in `rows` replaced by the gpu's, order kept."""
    values, confidence = cpu.values.copy(), cpu.confidence.copy()
    values[rows], confidence[rows] = gpu.values, gpu.confidence
    return Scored(values, confidence)


def wire_outputs(scored: Scored, manifest: Manifest) -> dict[str, Output]:
    """Every output tensor that the manifest promises, by name."""
    values, confidence = scored
    if manifest.task == "regression":
        return {manifest.outputs[0].name: ("FP32", values)}
    labels = manifest.labels
    return {
        "probabilities": ("FP32", values),
        "label": ("BYTES", [labels[index] for index in _likeliest(values)]),
        "confidence": ("FP32", confidence),
    }


def _likeliest(values: NDArray[np.float32]) -> list[int]:
    """The class of each item."""
    if values.size <= FEW:
        return [row.index(max(row)) for row in values.tolist()]
    found: list[int] = values.argmax(axis=1).tolist()
    return found


def from_wire(outputs: dict[str, Tensor], task: str) -> Scored:
    """The inverse of `wire_outputs`; raises KeyError when an output is missing."""
    if task == "regression":
        (values,) = (tensor.array for tensor in outputs.values())
        return _regression(values)
    return Scored(outputs["probabilities"].array, outputs["confidence"].array)
