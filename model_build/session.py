"""One way to open an ONNX graph while building: CPU, one thread, a stated optimisation level, no chatter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from handlers.serving.session import session_options

Array = npt.NDArray[Any]


def open_session(path: Path, load_optimisation: str = "extended", save_to: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession with one thread; `save_to` also writes the optimised graph there."""
    options = session_options(1, load_optimisation)
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def outputs_of(
    path: Path, tensors: Sequence[Array], load_optimisation: str = "extended", batch: int = 32
) -> Array:
    """The graph's one output [N, K] (float32) over all rows of `tensors`, in batches."""
    session = open_session(path, load_optimisation)
    names = [entry.name for entry in session.get_inputs()]
    rows = len(tensors[0])
    parts = [
        session.run(
            None,
            {
                name: np.ascontiguousarray(tensor[start : start + batch])
                for name, tensor in zip(names, tensors, strict=True)
            },
        )[0]
        for start in range(0, rows, batch)
    ]
    return np.concatenate(parts).astype(np.float32)
