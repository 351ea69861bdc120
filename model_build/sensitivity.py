"""Sensitivity: which layers cannot bear int8, found by quantising each alone.

A network with its features inside the graph (a spectrogram, a log) has layers whose values span many powers
of ten; in eight bits they drown everything behind them. Each layer with weights is quantised alone and the
noise at the output measured; the noisy ones stay float32. It is the build's way to quantise fewer
operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.errors import BuildError
from model_build.quantise import CONVOLUTIONS, PRODUCTS, Scheme, quantise, weighted_layers
from model_build.session import outputs_of

Array = npt.NDArray[Any]

# Noise power over signal power at the output, for one layer: 0.003 is 25 dB.
MAX_NOISE = 0.003
ROWS = 32
MOST_LAYERS = 24
# Operators that hand int8 on without widening its range.
PLAIN_CARRIERS = frozenset({"Relu", "MaxPool", "AveragePool"})


def robust_scheme(graph: Path, calibration: Sequence[Array], folder: Path) -> Scheme | None:
    """All layers in int8 but the sensitive ones; None where there are none, or nothing would be left.

    Convolutions and products are static where the graph has convolutions, else products are dynamic.
    """
    layers = [(kind, name) for kind, name in weighted_layers(graph) if kind in CONVOLUTIONS | PRODUCTS]
    convolutional = any(kind in CONVOLUTIONS for kind, _name in layers)
    base = Scheme(
        "int8-robust",
        "",
        static=CONVOLUTIONS | PRODUCTS | PLAIN_CARRIERS if convolutional else frozenset(),
        dynamic=frozenset() if convolutional else PRODUCTS,
    )
    names = [name for _kind, name in layers]
    if not 2 <= len(names) <= MOST_LAYERS:
        return None
    rows = [tensor[:ROWS] for tensor in calibration]
    wanted = outputs_of(graph, rows)
    spared = tuple(
        name for name in names if noise_of(graph, base, name, names, rows, wanted, folder) > MAX_NOISE
    )
    if not spared or len(spared) == len(names):
        return None
    return replace(base, words=f"all but {len(spared)} sensitive of {len(names)} layers", spared=spared)


def noise_of(
    graph: Path,
    scheme: Scheme,
    layer: str,
    layers: Sequence[str],
    rows: Sequence[Array],
    wanted: Array,
    folder: Path,
) -> float:
    """Noise power over signal power at the output, `layer` alone quantised; infinite where it cannot be."""
    alone = replace(scheme, spared=tuple(name for name in layers if name != layer))
    path = folder / "sensitivity.onnx"
    try:
        got = outputs_of(quantise(graph, alone, rows, path).path, rows)
    except BuildError:
        return float("inf")
    finally:
        path.unlink(missing_ok=True)
    return float(np.mean((got - wanted) ** 2) / max(float(np.mean(wanted**2)), 1e-30))
