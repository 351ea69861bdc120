"""The cpu variant as an ONNX Runtime session, opened for a function's share of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from handlers.errors import ReleaseError
from handlers.protocol.tensors import NUMPY_DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.serving.manifest import Manifest, TensorSpec


class OnnxSession:
    """Runs graph tensors to raw logits or values, FP32 [items, K]."""

    def __init__(self, path: Path, manifest: Manifest, threads: int) -> None:
        """Open `path`. Raises ReleaseError when this ONNX Runtime is too old or cannot load it."""
        check_floor(manifest.cpu.ort_min)
        self._output = [manifest.graph_output.name]
        self._names = [spec.name for spec in manifest.tensors]
        try:
            self._session = ort.InferenceSession(
                str(path), session_options(threads, manifest.cpu.load_optimisation), ["CPUExecutionProvider"]
            )
        except Exception as error:  # ORT raises a dozen unrelated classes here, all of them final
            raise ReleaseError(f"{manifest.release}/{path.name}: cannot be loaded ({error})") from error

    def run(
        self, arrays: Sequence[NDArray[Any]], options: ort.RunOptions | None = None
    ) -> NDArray[np.float32]:
        """One inference; `options.terminate` set by another thread ends it early with an exception."""
        feeds = dict(zip(self._names, arrays, strict=True))
        return self._session.run(self._output, feeds, options)[0]  # type: ignore[no-any-return]  # untyped library

    def run_options(self) -> ort.RunOptions:
        """Options for one run that may be stopped."""
        return ort.RunOptions()

    def warm_up(self, tensors: Sequence[TensorSpec]) -> None:
        """Run once on zeros, so that the first caller does not pay for lazy allocation."""
        sample = [
            np.zeros([max(1, size) for size in spec.shape], dtype=NUMPY_DTYPES[spec.dtype])
            for spec in tensors
        ]
        self.run(sample)


def session_options(threads: int, load_optimisation: str) -> ort.SessionOptions:
    """The one set of options for serving, profiling and benchmarks alike."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if threads > 1:  # spinning threads burn the share of a core that the model needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = {
        "off": levels.ORT_DISABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,  # this CPU's layouts, made in memory as it loads: never in a file
    }[load_optimisation]
    return options


def check_floor(ort_min: str | None) -> None:
    """Raises ReleaseError when the release needs a newer ONNX Runtime than this one."""
    if ort_min is not None and _version(ort.__version__) < _version(ort_min):
        raise ReleaseError(f"onnxruntime: {ort.__version__} is too old; allowed: {ort_min} or newer")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdecimal())
