"""All chance of a replay, drawn beforehand: the same for every policy, so that they differ only by policy."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from handlers.routing.latency import LEVELS, Quantiles
from handlers.routing.snapshot import NOMINAL_THRESHOLD, Cascade

from .scenario import Scenario

Seconds: TypeAlias = "array[float]"

EXPLORES, ASKS_GPU = 1, 2


@dataclass(frozen=True, slots=True)
class Draws:
    """Per request, each of shape [requests]: times in seconds, flags as bytes.

    `cpu_s` service on the CPU, `network_s` to the endpoint and back, `confidence` of the CPU's answer;
    `cpu_right` and `gpu_right` whether each path's answer is correct; `explores`: whether this request tries
    the path that would not be chosen (`EXPLORES`), or demands the GPU (`ASKS_GPU`, never drawn); `gpu_fails`:
    the endpoint's answer to it would be an error.
    """

    cpu_s: Seconds
    network_s: Seconds
    confidence: Seconds
    cpu_right: NDArray[np.bool_]
    gpu_right: NDArray[np.bool_]
    explores: bytes
    gpu_fails: bytes


def draw(scenario: Scenario, requests: int, explore_share: float, seed: int) -> Draws:
    """Draw everything for so many requests; the same seed gives the same draws."""
    random = np.random.default_rng([seed, 31337])
    profile = scenario.profile
    confidence, cpu_right, gpu_right = _answers(scenario, requests, random)
    return Draws(
        cpu_s=_seconds(profile.cpu.service, random.random(requests)),
        network_s=_seconds(profile.network, random.random(requests)),
        confidence=array("d", confidence.tobytes()),
        cpu_right=cpu_right,
        gpu_right=gpu_right,
        explores=(random.random(requests) < explore_share).tobytes(),
        gpu_fails=(random.random(requests) < scenario.cloud.failure_share).tobytes(),
    )


def needing(scenario: Scenario, draws: Draws) -> NDArray[np.bool_]:
    """Which requests need the GPU's answer: those whose CPU answer is below the threshold."""
    threshold = -1.0
    if scenario.cascade is not None:
        threshold = scenario.cascade.threshold
    elif scenario.escalation_share > 0.0 and scenario.profile.gpu is not None:
        threshold = NOMINAL_THRESHOLD
    return np.asarray(np.frombuffer(draws.confidence, dtype=np.float64) < threshold)


def _seconds(curve: Quantiles, uniform: NDArray[np.float64]) -> Seconds:
    """Samples of a latency curve, by inverting it: linear in −ln(1 − q) between its levels."""
    levels = -np.log1p(-np.array(LEVELS))
    at = -np.log1p(-uniform)
    values = np.interp(at, levels, curve.ms)
    slope = (curve.ms[-1] - curve.ms[-2]) / (levels[-1] - levels[-2])
    values = np.where(at > levels[-1], curve.ms[-1] + slope * (at - levels[-1]), values)
    return array("d", (values / 1000.0).tobytes())


def _answers(
    scenario: Scenario, requests: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Confidence of the CPU's answer, and whether each path is right, from the release's held-out curve.

    The curve says what share lies below each threshold, and what escalating that share did to accuracy:
    between two thresholds the CPU is right as often as the heavy model less what escalation won there.
    """
    profile = scenario.profile
    cpu_accuracy = profile.cpu.accuracy
    gpu_accuracy = cpu_accuracy if profile.gpu is None else profile.gpu.accuracy
    points = _points(scenario, gpu_accuracy)
    shares = np.array([share for _, share, _ in points])
    edges = np.array([threshold for threshold, _, _ in points])
    accuracies = np.array([accuracy for _, _, accuracy in points])
    with np.errstate(divide="ignore", invalid="ignore"):
        won = np.where(np.diff(shares) > 0, np.diff(accuracies) / np.diff(shares), 0.0)
    right = np.clip(gpu_accuracy - won, 0.0, 1.0)
    uniform = random.random(requests)
    bins = np.clip(np.searchsorted(shares, uniform, side="right") - 1, 0, len(right) - 1)
    confidence = np.interp(uniform, shares, edges)
    return confidence, random.random(requests) < right[bins], random.random(requests) < gpu_accuracy


def _points(scenario: Scenario, gpu_accuracy: float) -> list[tuple[float, float, float]]:
    """(threshold, share below it, accuracy when that share is escalated), from none to all."""
    profile, cascade = scenario.profile, scenario.cascade
    if cascade is None:
        share = profile.escalation_share
        cascade = Cascade(NOMINAL_THRESHOLD, share, gpu_accuracy)
    inner = [(p.threshold, p.escalation_share, p.accuracy) for p in cascade.curve]
    if not inner:
        inner = [(cascade.threshold, cascade.escalation_share, cascade.accuracy)]
    inner = [point for point in sorted(inner) if 0.0 < point[1] < 1.0]
    kept: list[tuple[float, float, float]] = [(0.0, 0.0, profile.cpu.accuracy)]
    for point in inner:
        if point[1] > kept[-1][1] and point[0] > kept[-1][0]:
            kept.append(point)
    return [*kept, (1.0, 1.0, gpu_accuracy)]
